"""Gradients against central differences, in double precision through the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import leptonc
from leptonc.gradient_rules import RULES
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model
from tests.robustness.models import model, node, untyped, value

F64, F32, I64, BOOL = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
TRAINING = "ai.onnx.preview.training"
Feeds = Mapping[str, Array]


def gradient(
    xs: Sequence[str], y: str, *, at: Sequence[str] = (), zs: Sequence[str] = (), to: str = "d"
) -> Any:
    """A node of the gradients of `y`, which it calls as the tensors with a `d` before."""
    fixed: Any = {"zs": list(zs)} if zs else {}
    given = list(at) or [*xs, *zs]
    outputs = [f"{to}{x}" for x in xs]
    return helper.make_node("Gradient", given, outputs, domain=TRAINING, xs=xs, y=y, **fixed)


def model_of(
    nodes: Sequence[Any],
    feeds: Feeds,
    outputs: Sequence[str],
    constants: Feeds | None = None,
    shapes: Mapping[str, Any] | None = None,
) -> Any:
    """A model of `nodes` whose inputs are like `feeds`."""
    shapes = shapes or {}
    return model(
        nodes,
        inputs=[
            value(name, shapes.get(name, x.shape), helper.np_dtype_to_tensor_dtype(x.dtype))
            for name, x in feeds.items()
        ],
        outputs=[untyped(name) for name in outputs],
        initializers=[numpy_helper.from_array(x, name) for name, x in (constants or {}).items()],
        opset=20,
        domains=[TRAINING],
    )


def given(proto: Any, feeds: Feeds) -> dict[str, Array]:
    return interpret(import_model(proto), feeds)


def differences(proto: Any, feeds: Feeds, name: str, step: float = 1e-6) -> Array:
    """The derivative of the sum of the model's output `y` by each element of an input."""
    graph = import_model(proto)
    slope = np.zeros_like(feeds[name])
    for place in np.ndindex(slope.shape):
        totals: list[float] = []
        for sign in (1, -1):
            moved = feeds[name].copy()
            moved[place] += sign * step
            totals.append(float(interpret(graph, {**feeds, name: moved})["y"].sum()))
        slope[place] = (totals[0] - totals[1]) / (2 * step)
    return slope


def check(
    nodes: Sequence[Any],
    feeds: Feeds,
    constants: Feeds | None = None,
    shapes: Mapping[str, Any] | None = None,
) -> None:
    """Weigh the elements of `r`, the nodes' result, and compare with differences."""
    # without weights the sum of a softmax, say, has no slope at all
    weigh = [
        node("Sin", ["r"], ["sine"]),
        node("Mul", ["sine", "r"], ["product"]),
        node("Exp", ["product"], ["y"]),
    ]
    xs = [name for name, x in feeds.items() if x.dtype.kind == "f"]
    whole = [*nodes, *weigh]
    outputs = ["y", *(f"d{x}" for x in xs)]
    found = given(model_of([*whole, gradient(xs, "y")], feeds, outputs, constants, shapes), feeds)
    plain = model_of(whole, feeds, ["y"], constants, shapes)
    for x in xs:
        wanted = differences(plain, feeds, x)
        assert found[f"d{x}"].shape == feeds[x].shape
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found[f"d{x}"], wanted, rtol=1e-5, atol=1e-7)


def numbers(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


ANY, POSITIVE = numbers(2, 3), numbers(2, 3, low=0.5, high=2.0)
UNARY = [
    *((op, ANY) for op in ("Abs", "Cos", "Erf", "Exp", "Identity", "Neg", "Relu", "Sigmoid")),
    *((op, ANY) for op in ("Sin", "Softplus", "Tanh", "Softmax", "LogSoftmax", "Flatten")),
    *((op, POSITIVE) for op in ("Log", "Reciprocal", "Sqrt")),
]


@pytest.mark.parametrize(("op", "x"), UNARY, ids=[op for op, _ in UNARY])
def test_one_operand(op: str, x: Array) -> None:
    check([node(op, ["x"], ["r"])], {"x": x})


SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 1, 3)), ((4, 1, 2), (3, 1))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Max", "Min"])
def test_two_operands_that_broadcast(op: str, shapes: Any) -> None:
    feeds = {
        name: numbers(*shape, low=0.5, high=1.5, seed=seed)
        for seed, (name, shape) in enumerate(zip("ab", shapes, strict=True))
    }
    check([node(op, ["a", "b"], ["r"])], feeds)


def test_where_and_extremes_of_many() -> None:
    feeds = {"c": ANY > 0, "a": numbers(3), "b": numbers(4, 2, 3)}
    check([node("Where", ["c", "a", "b"], ["r"])], feeds)
    check([node("Max", ["a", "b", "x"], ["r"])], {**feeds, "x": ANY + 0.8})
    even = given(
        model_of([node("Max", ["x", "z"], ["y"]), gradient(["x", "z"], "y")],
                 {"x": ANY, "z": ANY}, ["dx", "dz"]), {"x": ANY, "z": ANY},
    )  # fmt: skip
    assert (even["dx"] == 0.5).all()
    assert (even["dz"] == 0.5).all()


def test_clip() -> None:
    limits = {"low": np.array(-0.3), "high": np.array(0.4)}
    check([node("Clip", ["x", "low", "high"], ["r"])], {"x": ANY}, limits)
    with pytest.raises(LeptonError, match="clip is not differentiated by its limits"):
        check([node("Clip", ["x", "low", "high"], ["r"])], {"x": ANY, **limits})


def test_powers_at_zero() -> None:
    feeds = {"a": np.array([0.0, 0.0, 0.0, 2.0]), "b": np.array([0.0, 1.0, 2.0, 0.0])}
    nodes = [node("Pow", ["a", "b"], ["y"]), gradient(["a", "b"], "y")]
    found = given(model_of(nodes, feeds, ["da", "db"]), feeds)
    assert found["da"].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(found["db"], [0, 0, 0, np.log(2)])
    square = [node("Pow", ["x", "n"], ["r"])]
    check(square, {"x": ANY}, {"n": np.array(3, np.int64)})


def axes(*items: int) -> Array:
    return np.array(items, np.int64)


CUBE = numbers(2, 3, 4)
MOVED: dict[str, tuple[Any, Array, Feeds]] = {
    "reshape": (node("Reshape", ["x", "s"], ["r"]), CUBE, {"s": axes(0, -1, 2)}),
    "flatten": (node("Flatten", ["x"], ["r"], axis=2), CUBE, {}),
    "squeeze": (node("Squeeze", ["x", "a"], ["r"]), numbers(2, 1, 3, 1), {"a": axes(-1)}),
    "squeeze all": (node("Squeeze", ["x"], ["r"]), numbers(1, 3, 1), {}),
    "unsqueeze": (node("Unsqueeze", ["x", "a"], ["r"]), CUBE, {"a": axes(0, -1)}),
    "transpose": (node("Transpose", ["x"], ["r"], perm=[1, 2, 0]), CUBE, {}),
    "transpose all": (node("Transpose", ["x"], ["r"]), CUBE, {}),
    "expand": (node("Expand", ["x", "s"], ["r"]), numbers(3, 1), {"s": axes(2, 1, 4)}),
    "slice": (
        node("Slice", ["x", "b", "e", "a"], ["r"]), CUBE,
        {"b": axes(1, -3), "e": axes(99, -1), "a": axes(1, -1)},
    ),
    "pad": (
        node("Pad", ["x", "p", "c", "a"], ["r"]), CUBE,
        {"p": axes(1, -1, 2, 1), "c": np.array(0.5), "a": axes(0, 2)},
    ),
    "sum": (node("ReduceSum", ["x", "a"], ["r"], keepdims=0), CUBE, {"a": axes(-1, 0)}),
    "sum kept": (node("ReduceSum", ["x", "a"], ["r"]), CUBE, {"a": axes(1)}),
    "sum of all": (node("ReduceSum", ["x"], ["r"], keepdims=0), ANY, {}),
    "mean": (node("ReduceMean", ["x", "a"], ["r"], keepdims=0), CUBE, {"a": axes(0, 1)}),
    "mean of all": (node("ReduceMean", ["x"], ["r"]), CUBE, {}),
    "softmax": (node("Softmax", ["x"], ["r"], axis=1), CUBE, {}),
    "log softmax": (node("LogSoftmax", ["x"], ["r"], axis=0), CUBE, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_whole_tensors(name: str) -> None:
    made, x, constants = MOVED[name]
    check([made], {"x": x}, constants)


def test_joined_and_split() -> None:
    feeds = {"a": numbers(2, 3), "b": numbers(2, 1), "c": numbers(2, 2)}
    check([node("Concat", ["a", "b", "c"], ["r"], axis=-1)], feeds)
    halves = [
        node("Split", ["x"], ["f", "g", "h"], axis=2, num_outputs=3),
        node("Slice", ["h", "n", "e", "n"], ["i"]),
        node("Mul", ["f", "i"], ["r"]),
    ]
    check(halves, {"x": numbers(2, 2, 6)}, {"n": axes(0), "e": axes(1)})


PRODUCTS = [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)), ((3,), (2, 3, 4)), ((2, 4, 3), (3,)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matrix_products(shapes: Any) -> None:
    feeds = {"a": numbers(*shapes[0]), "b": numbers(*shapes[1], seed=1)}
    check([node("MatMul", ["a", "b"], ["r"])], feeds)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(left: int, right: int) -> None:
    a, b = numbers(2, 3), numbers(3, 4)
    feeds = {"a": a.T if left else a, "b": b.T if right else b, "c": numbers(4)}
    feeds = {name: np.ascontiguousarray(x) for name, x in feeds.items()}
    scales = {"transA": left, "transB": right, "alpha": 0.5, "beta": 2.0}
    check([node("Gemm", ["a", "b", "c"], ["r"], **scales)], feeds)


def test_symbolic_extents() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["i"]),
        node("Concat", ["i", "i", "x"], ["j"], axis=1), node("ReduceMean", ["j"], ["k"]),
        node("Mul", ["j", "k"], ["r"]),
    ]  # fmt: skip
    feeds = {"x": numbers(3, 4), "w": numbers(4, 2), "b": numbers(2)}
    check(nodes, feeds, shapes={"x": ("n", 4)})


def test_symbolic_extents_that_are_joined_and_padded() -> None:
    nodes = [
        node("Concat", ["x", "z", "x"], ["j"], axis=0), node("Pad", ["j", "p"], ["k"]),
        node("Reshape", ["k", "s"], ["m"]), node("Flatten", ["m"], ["i"], axis=0),
        node("Transpose", ["i"], ["t"]), node("Softmax", ["t"], ["r"], axis=0),
    ]  # fmt: skip
    feeds = {"x": numbers(3, 4), "z": numbers(2, 4)}
    constants = {"p": axes(1, 0, -2, 1), "s": axes(5, -1)}
    check(nodes, feeds, constants, shapes={"x": ("n", 4), "z": ("m", 4)})


def test_gradients_within_branches_and_functions() -> None:
    parts = [
        helper.make_graph(
            [gradient(["x"], "y", at=[at], to=f"{at}_")], at, [], [untyped(f"{at}_x")]
        )
        for at in "xz"
    ]
    chosen = node("If", ["c"], ["dx"], then_branch=parts[0], else_branch=parts[1])
    for choice, wanted in ((True, 3 * 4), (False, 3 * 25)):
        cube = [node("Mul", ["x", "x"], ["h"]), node("Mul", ["h", "x"], ["y"]), chosen]
        feeds = {**POINT, "c": np.array(choice)}
        assert given(model_of(cube, feeds, ["dx"]), feeds)["dx"].item() == wanted
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(TRAINING, 1)]
    body = [node("Exp", ["a"], ["b"]), gradient(["a"], "b")]
    function = helper.make_function("own", "Slope", ["a"], ["da"], body, imports)
    proto = model_of([helper.make_node("Slope", ["x"], ["dx"], domain="own")], POINT, ["dx"])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    np.testing.assert_allclose(given(proto, POINT)["dx"], np.exp(POINT["x"]))


def test_extents_that_may_be_one() -> None:
    feeds = {"x": numbers(3), "b": numbers(3)}
    nodes = [node("Add", ["x", "b"], ["y"]), gradient(["x", "b"], "y")]
    proto = model_of(nodes, feeds, ["dx", "db"], shapes={"x": ("n",), "b": ("m",)})
    with pytest.raises(LeptonError, match="depends on whether n is 1"):
        import_model(proto)


def test_casts_between_floats_and_through_integers() -> None:
    nodes = [
        node("Cast", ["x"], ["f"], to=F32), node("Mul", ["f", "f"], ["g"]),
        node("Cast", ["x"], ["i"], to=I64), node("Cast", ["i"], ["j"], to=F32),
        node("Add", ["g", "j"], ["y"]), gradient(["x"], "y"),
    ]  # fmt: skip
    feeds = {"x": np.array([0.5, 1.25, -3.75])}
    found = given(model_of(nodes, feeds, ["dx"]), feeds)["dx"]
    assert (found.dtype, found.tolist()) == (np.float64, [1.0, 2.5, -7.5])


def test_narrow_means_of_many_elements() -> None:
    nodes = [node("ReduceMean", ["x"], ["y"]), gradient(["x"], "y")]
    feeds = {"x": np.ones((70000,), np.float16)}
    found = given(model_of(nodes, feeds, ["dx"]), feeds)["dx"]
    np.testing.assert_allclose(found.astype(np.float64), 1 / 70000, rtol=0.01)


CHAIN = [
    node("Mul", ["x", "w"], ["h"]),
    node("Mul", ["h", "h"], ["k"]),
    node("Mul", ["k", "z"], ["y"]),
]
POINT = {"x": np.array([2.0]), "w": np.array([3.0]), "z": np.array([5.0])}


def test_an_intermediate_tensor_and_outputs_left_out() -> None:
    nodes = [*CHAIN, gradient(["h"], "y", zs=["z"]), gradient(["x", "w"], "y", zs=["z"], to="e")]
    nodes[-1].output[0] = ""
    found = given(model_of(nodes, POINT, ["dh", "ew"]), POINT)
    assert (found["dh"].item(), found["ew"].item()) == (2 * 6 * 5, 2 * 6 * 5 * 2)


def test_at_other_values() -> None:
    """The operations are done again with the values given, even one value for two tensors."""
    nodes = [*CHAIN, gradient(["x", "w"], "y", at=["z", "z", "w"], zs=["z"])]
    found = given(model_of(nodes, POINT, ["y", "dx", "dw"]), POINT)
    assert found["y"].item() == 36 * 5
    assert found["dx"].item() == 2 * 25 * 5 * 3  # d (x w)^2 z / dx = 2 x w^2 z
    assert found["dw"].item() == 2 * 25 * 5 * 3


def test_the_second_order_before_its_first() -> None:
    """Nodes may stand in any order, so Gradient waits for the tensors it names."""
    first = gradient(["x", "w"], "y", zs=["z"])
    second = helper.make_node(
        "Gradient", ["x", "w", "z"], ["exx", "exw"], domain=TRAINING,
        xs=["x", "w"], zs=["z"], y="dx",
    )  # fmt: skip
    proto = model_of([second, first, *CHAIN], POINT, ["exx", "exw"])
    with pytest.warns(UserWarning, match="they were sorted"):
        found = given(proto, POINT)
    assert found["exx"].item() == 2 * 9 * 5
    assert found["exw"].item() == 4 * 2 * 3 * 5


def test_what_y_does_not_depend_on() -> None:
    nodes = [node("Mul", ["x", "x"], ["y"]), gradient(["x", "w"], "y"), gradient(["y"], "y")]
    feeds = {"x": ANY, "w": CUBE}
    found = given(model_of(nodes, feeds, ["dx", "dw", "dy"]), feeds)
    assert (found["dx"] == 2 * ANY).all()
    assert found["dw"].shape == CUBE.shape
    assert not found["dw"].any()
    assert (found["dy"] == 1).all()


def branches() -> list[Any]:
    """A branch that reads `x` from around it."""
    parts = [
        helper.make_graph([node(op, ["x"], [f"{op}_out"])], op, [], [untyped(f"{op}_out")])
        for op in ("Exp", "Sin")
    ]
    return [node("If", ["c"], ["y"], then_branch=parts[0], else_branch=parts[1])]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("CumSum", ["x", "a"], ["y"]), gradient(["x"], "y")], "cum_sum stands between"),
        ([*branches(), gradient(["x"], "y")], "if stands between .* not differentiated"),
        ([*branches(), gradient(["x"], "y", at=["w"])], "if stands between .* computed again"),
        ([node("Exp", ["x"], ["h"]), node("Mul", ["h", "x"], ["y"]), gradient(["h", "x"], "y")],
         "another tensor of Gradient's xs and zs is computed from 'x'"),
        ([node("Exp", ["x"], ["y"]), gradient(["x", "x"], "y")], "is computed from 'x'"),
        ([node("Exp", ["x"], ["y"]), gradient(["a"], "y")], "only floats of 16 bits"),
        ([node("Exp", ["x"], ["y"]), gradient(["x"], "y", at=["a"])], "is given i64.* for 'x'"),
        ([node("Exp", ["x"], ["y"]), gradient(["x"], "y", at=["x", "x"])], "has 2 inputs"),
        ([node("Exp", ["x"], ["y"]), gradient(["x"], "nothing")], "nothing defines 'nothing'"),
        ([gradient(["x"], "y"), node("Exp", ["dx"], ["y"])], "the nodes are in a cycle"),
        ([node("Slice", ["x", "a", "e", "a", "s"], ["y"]), gradient(["x"], "y")], "in steps of 2"),
        ([node("Pad", ["x", "p"], ["y"], mode="edge"), gradient(["x"], "y")], "in the mode edge"),
    ],
)  # fmt: skip
def test_what_is_refused(nodes: list[Any], message: str) -> None:
    feeds = {"x": numbers(4), "w": numbers(4), "c": np.array(True)}
    constants = {"a": axes(0), "e": axes(4), "s": axes(2), "p": axes(1, 1)}
    with pytest.raises(LeptonError, match=message):
        import_model(model_of(nodes, feeds, ["dx"], constants))


def test_every_rule_is_of_a_row() -> None:
    from leptonc.ir.table import op_named

    assert all(op_named(name) is not None for name in RULES)


def test_a_classifier_compiled() -> None:
    """A classifier of two layers, its loss and its gradients."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "v"], ["s"]), node("LogSoftmax", ["s"], ["p"]),
        node("Mul", ["p", "label"], ["q"]), node("ReduceSum", ["q"], ["t"], keepdims=0),
        node("Neg", ["t"], ["loss"]), gradient(["w", "b", "v"], "loss", zs=["x"]),
    ]  # fmt: skip
    shapes = {"x": (6, 5), "w": (5, 8), "b": (8,), "v": (8, 3)}
    feeds = {name: numbers(*shape).astype(np.float32) for name, shape in shapes.items()}
    feeds["label"] = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 2, 1]]
    proto = model_of(
        nodes, feeds, ["loss", "dw", "db", "dv"], shapes={"x": ("n", 5), "label": ("n", 3)}
    )
    found = leptonc.compile(proto, target="cpu", cache=False, isolated=False).run(feeds)
    h = feeds["x"] @ feeds["w"] + feeds["b"]
    r = np.maximum(h, 0)
    s = r @ feeds["v"]
    slope = np.exp(s) / np.exp(s).sum(1, keepdims=True) - feeds["label"]
    inner = (slope @ feeds["v"].T) * (h > 0)
    for name, wanted in {"dw": feeds["x"].T @ inner, "db": inner.sum(0), "dv": r.T @ slope}.items():
        np.testing.assert_allclose(found[name], wanted, 1e-4, 1e-5)
