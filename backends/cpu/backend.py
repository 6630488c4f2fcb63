"""The CPU target: generated kernels for x86-64 and 64-bit Arm, called by TVM's virtual machine."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from leptonc.backends.base import LibraryReport, Progress, ShortList
from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.target import (
    CpuTarget,
    available_threads,
    largest_neighbours,
    model_name,
    multiplies_bf16,
    required_features,
)
from leptonc.backends.tvm.cache import Cache, code_digest
from leptonc.backends.tvm.regions import tells_nodes
from leptonc.backends.tvm.source import kernel_source
from leptonc.backends.tvm.worker import build_in_child
from leptonc.ir.extension_text import calls_python, extension_rows, identities
from leptonc.ir.graph import Graph, Op
from leptonc.ir.text import print_graph

OPTIONAL = frozenset({
    "recognize-fourier", "recognize-lookups", "recognize-integer-convolutions",
    "recognize-integer-products", "keep-integers", "integers-to-float", "widen-to-planes",
    "tabulate-bytes",
    "block-channels", "choose-winograd", "halve-convolutions", "narrow-integers",
    "keep-weights-in-bytes", "skip-later-keys", "carry-in-bf16",
})  # fmt: skip
"""Passes that the kernels of this target do without."""


@dataclass(frozen=True)
class CpuBackend:
    """Builds libraries for `cpu`; `version` is leptonc's, for the cache.

    Unless `isolated`, kernels are built in this process: faster for many small models, but what
    goes wrong inside LLVM then ends the process.
    """

    cpu: CpuTarget
    version: str
    isolated: bool = True

    @property
    def name(self) -> str:
        """The target's name on the command line."""
        return "cpu"

    @property
    def machine(self) -> str:
        """The architecture of the machine that runs the library."""
        return self.cpu.machine or platform.machine()

    @property
    def features(self) -> tuple[str, ...]:
        """What the machine that runs the library must have."""
        return required_features(self.cpu)

    def unsupported(self, op: Op) -> str:
        """Why this operation cannot be compiled; empty if it can."""
        # imports the code generator: on demand
        from leptonc.backends.tvm.support import unsupported

        return unsupported(op)

    @property
    def precisions(self) -> frozenset[str]:
        """What products may be computed in."""
        return frozenset({"fp32", "bf16"})

    def passes(self, level: int, precision: str = "fp32") -> str:
        """The target's own passes, as pipeline text."""
        pairs = str(multiplies_bf16(self.cpu)).lower()
        options = f"{{pairs={pairs} convolutions={pairs}}}"
        lower = f",lower-precision{options}" if precision == "bf16" else ""
        if level < 2:
            return f"spell-attention{lower}"
        attention = "spell-rare-attention,skip-later-keys,widen-attention,simplify"
        # not before ONNX is written: onnxruntime fuses only with every conversion in its place
        neighbours = f"{{neighbours={largest_neighbours(self.cpu)}}}"
        floats = (
            f"recognize-quantized,tabulate-bytes,recognize-integer-convolutions{neighbours},"
            f"recognize-integer-products,keep-integers{neighbours},"
            "integers-to-float,"
            "eliminate-common-subexpressions,eliminate-dead-code"
        )
        norms = "recognize-fourier,recognize-for-kernels,recognize-lookups,spell-out-norms"
        lanes = f"lanes={self.cpu.lanes}"
        tiles = f"choose-winograd{{{lanes} threads={self.cpu.threads}}}"
        halves = f"halve-convolutions{{{lanes}}}"
        blocks = f"widen-to-planes,block-channels{{{lanes}}},{tiles},{halves}"
        carry = ",carry-in-bf16" if lower and multiplies_bf16(self.cpu) else ""
        # last: what only dead operations read in fp32 is carried, too
        last = f"keep-weights-in-bytes{lower},narrow-integers,eliminate-dead-code{carry}"
        return f"{attention},{norms},{floats},{blocks},{last}"

    @property
    def optional(self) -> frozenset[str]:
        """Passes that make kernels faster, each of which may be left out."""
        return OPTIONAL

    @property
    def fusion_limits(self) -> Mapping[str, Any]:
        """What one kernel can hold."""
        return {"opaque": frozenset({"pack_channels", "unpack_channels", "attention"})}

    @property
    def circumstances(self) -> Mapping[str, Any]:
        """What measurements depend on beside the kernel: the machine, and what makes the code."""
        versions = {"leptonc": self.version, "code": code_digest(), "tvm": _tvm_version()}
        cpu = json.loads(json.dumps(asdict(self.cpu)))
        return {"model": model_name(), "cpu": cpu, "versions": versions}

    def short_lists(self, graph: Graph, largest_tile: int) -> Mapping[str, ShortList]:
        """What can be decided of the kernels of an optimised graph, by workload."""
        from leptonc.backends.cpu.candidates import short_lists

        return short_lists(graph, self.cpu, largest_tile)

    def prepare(
        self, graph: Graph, decisions: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Rewrite the optimised graph into the form for `build`: kernels chosen, weights packed."""
        from leptonc.backends.cpu.prepare import prepare

        if decisions is None:
            prepare(graph, self.cpu)
            return {}
        read = {workload: Decision.parse(text) for workload, text in decisions.items()}
        kernels = prepare(graph, self.cpu, read)
        found: dict[str, str] = {}
        for workload, op in kernels:
            name = kernel_source(op).name
            # the time of a kernel that computes two of them tells nothing of either
            found[name] = workload if found.get(name, workload) == workload else ""
        return found

    def build(
        self, graph: Graph, path: Path, *, cache_folder: Path | None, progress: Progress,
        limit: float | None = None,
    ) -> LibraryReport:  # fmt: skip
        """Write the library of a prepared graph to `path`, from the cache where it has it."""
        text = print_graph(graph, locations=tells_nodes(graph), blob_names=True)
        if not self.isolated and calls_python(graph):
            cache_folder = None  # this process may hold other code than the digests were made of
        cache = Cache(cache_folder, f"{self.version} {code_digest()}")
        about = {"cpu": repr(self.cpu), "tvm": _tvm_version(), "extensions": identities(graph)}
        key = json.dumps({"library": text, **about})
        found = cache.get(key)
        if found is not None:
            head, _, library = found.partition(b"\n")
            path.write_bytes(library)
            return replace(LibraryReport(**json.loads(head)), compiled=0)
        report = self._build(graph, path, cache, progress, limit)
        head = json.dumps(asdict(report))
        cache.put(key, head.encode() + b"\n" + path.read_bytes())
        cache.trim()
        return report

    def _build(
        self, graph: Graph, path: Path, cache: Cache, progress: Progress, limit: float | None
    ) -> LibraryReport:
        if not self.isolated:
            from leptonc.backends.tvm.build import build_library

            return build_library(graph, self.cpu, path, cache=cache, progress=progress)
        text = print_graph(graph, locations=True, blob_names=True)
        return build_in_child(
            text, self.cpu, path, cache_folder=cache.folder, version=cache.version,
            rows=list(extension_rows(graph).values()),
            jobs=available_threads(), progress=progress, limit=limit,
        )  # fmt: skip


def _tvm_version() -> str:
    """The version of the code generator, told without importing it."""
    from importlib.metadata import version

    return f"{version('apache-tvm')} {version('apache-tvm-ffi')}"
