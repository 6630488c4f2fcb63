# pyright: standard
"""Buffers of several axes become flat ones, at indices that the kernels spell out themselves."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm.ir import TensorLoad

from leptonc.backends.tvm.binding import tirx

WHOLE = "leptonc.whole"
"""Marks functions that say themselves how much memory they need, and where everything is in it."""


@tirx.transform.prim_func_pass(opt_level=0)
class Flatten:
    """Does what FlattenBuffer does to `WHOLE` functions, in a tenth of the time.

    TVM looks for a simpler form of every index as a map of all loops around it: most of the time of
    the pipeline where registers are many. The code that LLVM makes of either is the same.
    """

    def __init__(self) -> None:
        self.flatten = tirx.transform.FlattenBuffer()

    def transform_function(self, function: Any, module: Any, context: Any) -> Any:
        """`function` with flat buffers; its parameters keep their shapes, which callers check."""
        if WHOLE not in function.attrs:
            return self.flatten(tvm.IRModule({"kernel": function}))["kernel"]
        return _Flattening().mutate(function)


class _Flattening:
    def __init__(self) -> None:
        self.flat: dict[int, Any] = {}
        """The flat buffer of each that has several axes."""
        self.inside: set[int] = set()
        """Those of them that are made inside: their memory is that of the flat one."""

    def mutate(self, function: Any) -> Any:
        """`function` with a flat view of each parameter in front."""
        callbacks = [
            (tirx.BufferStore, self._store),
            (TensorLoad, self._load),
            (tirx.AllocBuffer, self._allocate),
            (tirx.DeclBuffer, self._declare),
        ]
        body = tvm_ffi.structural_mutate(function.body, callbacks)
        views = [
            tirx.DeclBuffer(self.flat[hash(parameter)], data=parameter.data)
            for parameter in function.params
            if hash(parameter) in self.flat
        ]
        return function.with_body(tirx.SeqStmt([*views, body]) if views else body)

    def _flattened(self, buffer: Any) -> Any:
        if hash(buffer) not in self.flat:
            self.flat[hash(buffer)] = buffer.get_flattened_buffer()
        return self.flat[hash(buffer)]

    def _store(self, store: Any, mutator: Any) -> Any:
        buffer = store.buffer
        if len(buffer.shape) == 1:
            return mutator.default_mutate(store)
        at = buffer.offset_of([mutator.mutate(index) for index in store.indices])
        return tirx.BufferStore(self._flattened(buffer), mutator.mutate(store.value), at)

    def _load(self, load: Any, mutator: Any) -> Any:
        buffer = load.source
        if len(buffer.shape) == 1:
            return mutator.default_mutate(load)
        at = buffer.offset_of([mutator.mutate(index) for index in load.indices])
        return tirx.BufferLoad(self._flattened(buffer), at)

    def _allocate(self, made: Any, mutator: Any) -> Any:
        if len(made.buffer.shape) == 1:
            return made
        self.inside.add(hash(made.buffer))
        return tirx.AllocBuffer(self._flattened(made.buffer))

    def _declare(self, made: Any, mutator: Any) -> Any:
        (owner,), buffer = made.data.args, made.buffer
        data = self.flat[hash(owner)].data if hash(owner) in self.inside else made.data
        if len(buffer.shape) > 1:
            self.inside.add(hash(buffer))
            buffer = self._flattened(buffer)
        return tirx.DeclBuffer(buffer, data=data)
