"""The functions behind `import leptonc`: compile, load and optimize."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonc.ir.diagnostics import LeptonError
from leptonc.targets import Target

if TYPE_CHECKING:
    from leptonc.driver import Options
    from leptonc.extensions import Operator
    from leptonc.runtime.session import Session

DEFAULT_LEVEL = 2


def compile(
    model: Any,
    *,
    target: str | Target = "cpu",
    level: int = DEFAULT_LEVEL,
    precision: str = "fp32",
    dims: Mapping[str, int] | None = None,
    threads: int = 0,
    output: str | Path | None = None,
    cache: bool | str | Path = True,
    isolated: bool = True,
    trust_inferred: bool = False,
    untrusted: bool = False,
    operators: Sequence[Operator] = (),
) -> Session:
    """Compile `model` (a path, bytes, a ModelProto or a Graph) and give back the loaded artefact.

    `dims` fixes symbolic extents by name; the others stay dynamic. It also says how many tensors a
    sequence among the inputs has, and with 0 that an optional one is absent. `threads` of 0 is as
    many as the process may use. With `output` the artefact is written there, else to a temporary
    file that goes away with the session. Kernels are kept in the user's cache, or in the folder
    `cache`, or nowhere. They are built in a process of their own unless `isolated` is off, which is
    faster for many small models. `trust_inferred` goes by computed shapes where outputs are
    declared otherwise; `untrusted` reads a model's data instead of mapping it. Raises LeptonError
    with all that is wrong with the model at once.
    """
    from leptonc.driver import compile_model
    from leptonc.runtime import load

    options = make_options(
        target,
        level=level,
        precision=precision,
        dims=dims or {},
        threads=threads,
        cache=cache,
        isolated=isolated,
        trust_inferred=trust_inferred,
        untrusted=untrusted,
        operators=operators,
    )
    if output is not None:
        compile_model(model, Path(output), options)
        return load(output)
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder:
        path = Path(folder) / "model.lepton"
        compile_model(model, path, options)
        return load(path)


def make_options(
    target: str | Target,
    *,
    level: int,
    precision: str,
    dims: Mapping[str, int],
    threads: int,
    cache: bool | str | Path,
    **more: Any,
) -> Options:
    """Checked options; raises LeptonError for a level or number of threads that does not exist."""
    from leptonc.backends.tvm.cache import default_cache_folder
    from leptonc.driver import Options

    if level not in range(4):
        raise LeptonError(
            f"there is no optimisation level {level}", notes=["levels go from 0 to 3"], code="E804"
        )
    if threads < 0:
        raise LeptonError(
            f"{threads} threads are not possible",
            notes=["0 is as many as may be used"],
            code="E705",
        )
    folder = Path(cache) if not isinstance(cache, bool) else default_cache_folder()
    return Options(
        target=Target.parse(target) if isinstance(target, str) else target,
        level=level, precision=precision, dims=dims, threads=threads,
        cache_folder=folder if cache else None, **more,
    )  # fmt: skip


def optimize(
    model: Any,
    output: str | Path | None = None,
    *,
    level: int = DEFAULT_LEVEL,
    operators: Sequence[Operator] = (),
) -> Any:
    """Rewrite an ONNX model into a smaller, equal one: a ModelProto, or None where it is a file.

    Only a file can hold a model over 2 GB, whose weights then lie beside it.
    """
    from leptonc.driver import import_source, run_passes
    from leptonc.onnx_export import export_model, save_model
    from leptonc.pipelines import OPTIMIZE

    graph = import_source(model, {}, operators=operators)
    run_passes(graph, OPTIMIZE[level])
    if output is None:
        return export_model(graph)
    save_model(graph, Path(output))
    return None
