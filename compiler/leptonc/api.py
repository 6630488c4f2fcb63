"""The functions behind `import leptonc`: compile, load and optimize."""

from __future__ import annotations

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
    tune: float = 0.0,
    tuning: str | Path | None = None,
    tune_inputs: Mapping[str, Any] | None = None,
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

    With `tune`, a few ways to compute each kernel are measured for so many seconds, in processes of
    their own and inside the network, which runs on `tune_inputs` where given and on random data
    else. What was measured is kept in the folder `tuning`, or beside the cache; without `tune`,
    `tuning` is such a folder or a tuned artefact whose decisions are taken over.
    """
    from leptonc.artifact import Artifact
    from leptonc.driver import compile_model
    from leptonc.runtime import load
    from leptonc.runtime.session import Session
    from leptonc.tuning.options import tuning_options
    from leptonc.unnamed import Unnamed

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
        tuning=tuning_options(tune, tuning, tune_inputs),
    )
    if output is not None:
        compile_model(model, Path(output), options)
        return load(output)
    unnamed = Unnamed()
    compile_model(model, unnamed, options)
    return Session(Artifact.just_written(unnamed))


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

    if threads < 0:
        raise LeptonError(
            f"{threads} threads are not possible",
            notes=["0 is as many as may be used"],
            code="E705",
        )
    folder = Path(cache) if not isinstance(cache, bool) else default_cache_folder()
    return Options(
        target=Target.parse(target) if isinstance(target, str) else target,
        level=_checked_level(level), precision=precision, dims=dims, threads=threads,
        cache_folder=folder if cache else None, **more,
    )  # fmt: skip


def _checked_level(level: int) -> int:
    if level not in range(4):
        raise LeptonError(
            f"there is no optimisation level {level}", notes=["levels go from 0 to 3"], code="E804"
        )
    return level


def optimize(
    model: Any,
    output: str | Path | None = None,
    *,
    level: int = DEFAULT_LEVEL,
    passes: str | None = None,
    disable: Sequence[str] = (),
    only: Sequence[str] = (),
    opset: int | None = None,
    allow: Sequence[str] = (),
    dims: Mapping[str, int] | None = None,
    check: bool = False,
    inputs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    external_data: bool | None = None,
    trust_inferred: bool = False,
    untrusted: bool = False,
    operators: Sequence[Operator] = (),
) -> Any:
    """Rewrite an ONNX model into a smaller, equal one: a ModelProto, or None where it is a file.

    `passes` is pipeline text in place of the passes of the level, `disable` leaves out passes or
    rules by name, `only` keeps the passes named. `opset` is the one to write, 11 or newer: by
    default the oldest, from the model's own and 13 on, that has all it needs. Operators of domains
    beside ONNX's own are written where the model has them already, or where `allow` names the
    domain. `dims` fixes symbolic extents.

    With `check` (or `inputs`, arrays by name) original and result run on random data, and on that
    given; LeptonError says which output is off by more than rounding explains, or by more than
    `tolerance`, and nothing is written.

    Only a file can hold a model over 2 GB, whose weights then lie beside it; `external_data` puts
    them there always (True) or never (False). The file may be the model's own.
    """
    from leptonc.onnx_compare import Comparison
    from leptonc.onnx_optimize import OptimizeOptions, optimize_model
    from leptonc.onnx_write import ALWAYS, INLINE_LIMIT, NEVER, Layout
    from leptonc.selection import Selection

    limit = {None: INLINE_LIMIT, True: ALWAYS, False: NEVER}[external_data]
    compared = check or inputs is not None
    options = OptimizeOptions(
        level=_checked_level(level), pipeline=passes, selection=Selection(disable, only),
        opset=opset, allow=frozenset(allow), dims=dims or {}, layout=Layout(limit),
        comparison=Comparison(inputs or {}, tolerance) if compared else None,
        trust_inferred=trust_inferred, untrusted=untrusted, operators=operators,
    )  # fmt: skip
    report = optimize_model(model, None if output is None else Path(output), options)
    return report.model if output is None else None
