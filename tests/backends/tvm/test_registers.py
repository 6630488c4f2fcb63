# pyright: standard
"""Bindings that inlining repeats or nests compile, and mean what they did."""

from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from leptonc.backends.cpu.target import tvm_target
from leptonc.backends.tvm.binding import let
from leptonc.backends.tvm.kernels import lower_kernel
from leptonc.backends.tvm.pipeline import PIPELINE
from leptonc.backends.tvm.schedule import schedule
from leptonc.backends.tvm.source import kernel_source
from tests.backends.tvm.kernel_of_row import cpu, only_op, run_kernel
from tests.ir.ops.single import one_op

X = np.linspace(-2, 2, 64, dtype=np.float32)


def computed(*stages):
    """What a chain of stages over a vector gives, scheduled and compiled."""
    tensors = [te.placeholder((X.size,), "float32", name="x")]
    for stage in stages:
        tensors.append(te.compute((X.size,), partial(stage, tensors[-1])))
    function = schedule(te.create_prim_func([tensors[0], tensors[-1]]), cpu())
    module = tirx.build(tvm.IRModule({"main": function}), tvm_target(cpu()), PIPELINE)
    result = tvm.runtime.tensor(np.zeros_like(X))
    tvm.runtime.Executable(module)["main"](tvm.runtime.tensor(X), result)
    return result.numpy()


def square(x, i):
    return let(x(i), lambda v: v * v)


def test_a_binding_read_twice_is_one():
    found = computed(square, lambda x, i: x(i) + x(i) * x(i))
    np.testing.assert_allclose(found, X**2 + X**4, rtol=1e-6)


def test_bindings_of_other_elements_are_others():
    found = computed(square, lambda x, i: x(i) - x(tirx.const(63, "int32") - i))
    np.testing.assert_allclose(found, X**2 - X[::-1] ** 2, rtol=1e-6, atol=1e-6)


def test_bindings_in_branches():
    """A branch has other elements, or those that are bound around it; so has the branch beside."""

    def chosen(x, i):
        other = x(tirx.const(63, "int32") - i)
        return tirx.Select(x(i) > other, other + x(i), x(i) - other)

    def lopsided(x, i):  # so that no two elements that are compared are nearly the same
        return let(x(i), lambda v: v * v + v)

    found = computed(lopsided, lambda x, i: let(x(i), lambda v: v * v + v), chosen)
    values = (X**2 + X) ** 2 + X**2 + X
    other = values[::-1]
    expected = np.where(values > other, other + values, values - other)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_long_chain_takes_linear_time():
    half, quarter = np.float32(0.5), np.float32(0.25)

    def step(x, i):
        a, b = tirx.const(0.5, "float32"), tirx.const(0.25, "float32")
        return let(x(i), lambda v: v * a + v * v * b)

    expected = X
    for _ in range(40):
        expected = expected * half + expected * expected * quarter
    found = computed(*[step] * 40)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_a_guarded_load_stays_behind_its_guard():
    def guarded(x, i):
        outside = i + 1_000_000_000
        value = let(x(outside), lambda v: v * v)
        return tirx.if_then_else(i < tirx.const(0, "int32"), value, x(i))

    np.testing.assert_array_equal(computed(guarded), X)


def test_a_binding_in_the_extent_of_a_loop_stays_there():
    x = np.arange(57, dtype=np.float32).reshape(19, 3)
    graph = one_op("transpose", [x], {"perm": (1, 0)}, shapes={0: ("n", 3)})
    source = kernel_source(only_op(graph))
    module = tvm.IRModule({source.name: lower_kernel(source, cpu())})
    library = tvm.runtime.Executable(tirx.build(module, tvm_target(cpu()), PIPELINE))
    (found,) = run_kernel(library[source.name], source, [x], [x.T])
    np.testing.assert_array_equal(found, x.T)
