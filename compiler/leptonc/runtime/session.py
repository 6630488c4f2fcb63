# pyright: standard
"""Loading an artefact and running it."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from leptonc.artifact import Artifact, Manifest, TensorSpec
from leptonc.groups import Groups
from leptonc.ir.diagnostics import LeptonError, shown, shown_path
from leptonc.runtime.ahead import loading_ahead
from leptonc.runtime.failures import failure
from leptonc.runtime.gate import Gate, refusal
from leptonc.runtime.host import available_threads, check_host
from leptonc.runtime.lanes import Lane, Look, ParallelLane
from leptonc.runtime.native import Sizes, is_parallel, load_library, native, sizes_of
from leptonc.runtime.pool import Pool
from leptonc.runtime.text import Text
from leptonc.runtime.values import ElementType, held_as

Array = np.ndarray[Any, np.dtype[Any]]

_SHAPES_KEPT = 64
"""How many combinations of input shapes a session remembers to be right; it then starts again."""
_POOLS_KEPT = 4
"""As `_SHAPES_KEPT` where memory is kept for the sizes of each combination."""
_THREADS_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Signature:
    """What a session takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a session has done so far."""

    calls: int
    copies: int
    """Inputs that were copied because they were not aligned, not in a row, or not in this
    machine's byte order; small ones also because that is cheaper than another look."""
    copied_bytes: int


def load(path: str | os.PathLike[str], threads: int | None = None) -> Session:
    """The session for an artefact, once all of it was checked.

    `threads` is how many a run takes, 0 for as many as this process may use; without it, what the
    artefact was compiled for.
    """
    with loading_ahead():  # digests are computed without Python's lock
        artifact = Artifact.open(path)
    return Session(artifact, threads=threads)


class Session:
    """A loaded artefact: run it from any number of threads; close it, or let it go."""

    def __init__(self, artifact: Artifact, *, threads: int | None = None) -> None:
        manifest = artifact.manifest
        check_host(artifact.path, manifest)
        self.threads = _thread_count(manifest.threads if threads is None else threads)
        """How many threads a run takes where the program has parallel loops."""
        self.manifest: Manifest = manifest
        """Everything the artefact says about itself."""
        self.signature = Signature(manifest.asked, manifest.outputs)
        self._asked = threads
        self._groups = Groups.of(manifest.provenance)
        self._artifact = artifact
        self._path = os.path.abspath(artifact.path)
        self._gate = Gate(manifest.inputs, manifest.dims)
        self._slots = [
            (slot, spec.name, kind, kind.dtype)
            for slot, (spec, kind) in enumerate(zip(manifest.inputs, self._gate.kinds, strict=True))
        ]
        self._results = [(spec.name, ElementType(held_as(spec.dtype))) for spec in manifest.outputs]
        self._arrays = [kind.giver() for _, kind in self._results]
        self._text = Text(manifest)
        self._is_plain = not self._text and not self._groups
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()
        self._parameters, self._weights = _parameters(artifact)
        self._pool, sizes = _pool(artifact, self.threads)
        self._keeps = sizes.shapes and not sizes.data
        self._native = native()
        weakref.finalize(self, self._native.free_memory).atexit = False

    @property
    def report(self) -> Report:
        """The calls so far, and the inputs that had to be copied for them."""
        lanes = list(self._pool.lanes)
        return Report(
            sum(lane.calls for lane in lanes),
            sum(lane.copies for lane in lanes),
            sum(lane.copied_bytes for lane in lanes),
        )

    def run(
        self, inputs: Mapping[str, Any], *, cast: bool = False, timeout: float | None = None
    ) -> dict[str, Array]:
        """The outputs for these inputs, as arrays that belong to the caller.

        Inputs are checked by name, element type and shape, and all that is wrong is said at once.
        With `cast`, arrays of another element type are converted first. With `timeout`, a run that
        takes more seconds ends with E706 before its next kernel; the session stays usable. Text
        goes in and comes out as arrays of str, a sequence as a list, an absent optional as None.
        """
        if self._is_plain:
            return self._run(inputs, cast, self._arrays, timeout)
        if self._groups:
            inputs = self._groups.spread(inputs)
        given, fresh = self._text.encoded(inputs)
        found = self._text.decoded(self._run(given, cast, self._arrays, timeout), fresh)
        return self._groups.gather(found)

    def run_dlpack(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs as tensors with DLPack's methods; inputs are anything that has them.

        Text goes in and comes out as places among `manifest.words`.
        """
        for name, kind in self._results:
            kind.check_dlpack(f"output {shown(name)}")
        give = [kind.named for _, kind in self._results]
        found = self._run(self._groups.spread(inputs), False, give)
        return self._groups.gather(found)

    def _run(
        self,
        inputs: Mapping[str, Any],
        cast: bool,
        give: Sequence[Callable[[Any], Any]],
        timeout: float | None = None,
    ) -> dict[str, Any]:
        lane = self._pool.take()
        try:
            arguments = self._quick(lane, inputs)
            if arguments is None:
                arrays = self._gate.admit(inputs, cast=cast)
                lane.learned.shapes = tuple(array.shape for array in arrays)
                self._note(lane.learned.shapes)
                arguments = [
                    lane.place(slot, array, kind)
                    for slot, (array, kind) in enumerate(zip(arrays, self._gate.kinds, strict=True))
                ]
            found = self._call(lane, arguments, timeout)
            lane.calls += 1
            seen = {argument.data_ptr() for argument in arguments}
            outputs: dict[str, Any] = {}
            item, (first, end) = self._native.array_item, self._weights
            for index, (name, kind) in enumerate(self._results):
                tensor = item(found, index)
                start = tensor.data_ptr()
                if start in seen or first <= start < end:
                    tensor = kind.copy_of(tensor)  # the program hands on what is not the caller's
                seen.add(start)
                outputs[name] = give[index](tensor)
            return outputs
        finally:
            self._pool.give(lane)

    def _quick(self, lane: Lane, inputs: Mapping[str, Any]) -> list[Any] | None:
        """The arguments, where every input is an array of its type; else None: look closer."""
        if type(inputs) is not dict or len(inputs) != len(self._slots):
            return None
        shapes, arguments = [], []
        for slot, name, kind, dtype in self._slots:
            array = inputs.get(name)
            if type(array) is not np.ndarray:
                return None
            if array.dtype is not dtype and array.dtype != dtype:  # most are the same object
                return None
            shapes.append(array.shape)
            arguments.append(lane.place(slot, array, kind))
        lane.learned.shapes = key = tuple(shapes)
        if key not in self._shapes:
            problems = self._gate.misfits(key)
            if problems:
                raise refusal(problems)
            self._note(key)
        return arguments

    def _note(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Remember shapes that are right; memory is kept for the sizes of a few of them."""
        if len(self._shapes) >= (_POOLS_KEPT if self._keeps else _SHAPES_KEPT):
            if shapes in self._shapes:
                return
            self._shapes.clear()
            if self._keeps:
                self._native.forget_memory()
        self._shapes.add(shapes)

    def _call(self, lane: Lane, arguments: Sequence[Any], timeout: float | None) -> Any:
        if timeout is not None:
            return self._timed_call(lane, arguments, timeout)
        call = lane.call or lane.start()
        try:
            return call(*arguments, self._parameters)
        except Exception as error:
            lane.stop()  # nobody knows what state the machine is in
            raise failure(error, self.manifest) from error
        except BaseException:
            lane.stop()
            raise

    def _timed_call(self, lane: Lane, arguments: Sequence[Any], timeout: float) -> Any:
        call, ended = lane.watch(timeout)
        try:
            return call(*arguments, self._parameters)
        except Exception as error:
            if ended.is_set():
                raise LeptonError(f"the run took longer than {timeout:g} s", code="E706") from None
            raise failure(error, self.manifest) from error
        finally:
            lane.stop()  # the next call need not look at the clock

    @contextlib.contextmanager
    def observed(self, look: Look) -> Iterator[None]:
        """Within it, `look` sees every call of the program; with no other run in flight."""
        lane = self._pool.take()
        lane.stop()
        lane.look = look
        self._pool.give(lane)
        try:
            yield
        finally:
            lane.look = None
            lane.stop()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artefact this session runs to another place."""
        self._pool.check_open()
        self._artifact.save(path)

    def close(self) -> None:
        """Wait for the calls in flight, then let go of everything; closing twice is fine."""
        self._pool.close()
        self._parameters = None
        self._artifact.close()
        self._native.free_memory()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Session], tuple[str, str, int | None]]:
        return _reload, (self._path, self._artifact.digest, self._asked)


def _reload(path: str, digest: str, threads: int | None) -> Session:
    artifact = Artifact.open(path)
    if artifact.digest != digest:
        raise LeptonError(
            f"{shown_path(path)} is not the artefact that was pickled",
            notes=["a pickled session is the path of its file and a digest, not the file"],
            code="E605",
        )
    return Session(artifact, threads=threads)


def _pool(artifact: Artifact, threads: int) -> tuple[Pool, Sizes]:
    with artifact.library as code:
        library = load_library(code, artifact.path)
        if artifact.manifest.functions:
            from leptonc.runtime.carried import bound  # what carries none need not import it

            library = bound(library, artifact)
        parallel = is_parallel(code)
        sizes = sizes_of(code, told=artifact.manifest.is_told)
    pooled = not sizes.data
    if parallel and threads > 1:
        at_once = max(1, available_threads() // threads)
        return Pool(lambda: ParallelLane(library, threads, pooled=pooled), at_once), sizes
    return Pool(lambda: Lane(library, serial=parallel, pooled=pooled)), sizes


def _parameters(artifact: Artifact) -> tuple[Any, tuple[int, int]]:
    """The tuple of weights as views of the file, and the addresses between which they lie."""
    tensors = [
        ElementType(spec.dtype).tensor_of(artifact.weight(index))
        for index, spec in enumerate(artifact.manifest.weights)
    ]
    starts = [tensor.data_ptr() for tensor in tensors]
    end = starts[-1] + artifact.manifest.weights[-1].size if starts else 0
    return native().array(tensors), (min(starts, default=0), end)


def _thread_count(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise LeptonError(f"threads is {shown(threads)}, should be an integer", code="E705")
    if not 0 <= threads <= _THREADS_LIMIT:
        raise LeptonError(
            f"threads is {threads}, should be from 0 to {_THREADS_LIMIT}", code="E705"
        )
    return threads or available_threads()
