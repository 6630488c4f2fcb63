"""What types of open extents take for granted ends the run where it does not hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.text import parse_graph

TEXT = """\
graph @taken_for_granted(
  %linear: f32[n,a], %conv: f32[1,c,h,3], %norm: f32[2,d,2],
  %steps: f32[2,f,3], %state: f32[1,g,1], %table: f32[i,2], %best: f32[j], %border: f32[k],
  %split: f32[l], %grid: f32[m,2,2,2], %image: f32[o,1,3,3], %scale: f32[p], %row: f32[2,q],
  %keys: f32[1,2,t,4], %mask: f32[u,w],
  %left: f32[2,aa], %right: f32[bb,3], %places: i64[cc,dd]
) -> (r0: f32[n,2], r1: f32[1,2,h-2,1], r2: f32[2,d,2], r4: f32[2,1,f,1],
      r5: f32[2,2], r6: f32[3], r7: f32[k+4], r8: f32[2], r9: f32[3], r10: f32[o,1,2,2],
      r11: f32[2,q], r12: i64[2], r13: f32[1,2,t,4],
      r14: f32[2,3], r15: f32[cc,dd]) {
  %w = const() {value = random(1)} : f32[3,2]
  %v = const() {value = random(2)} : f32[2,3,3,3]
  %s = const() {value = random(3)} : f32[3]
  %u = const() {value = random(4)} : f32[1,1,3]
  %r = const() {value = random(5)} : f32[1,1,1]
  %at = const() {value = dense([1, -3])} : i64[2]
  %three = const() {value = dense([3])} : i64[1]
  %both = const() {value = dense([2, 2])} : i64[2]
  %sizes = const() {value = dense([2, 3])} : i64[2]
  %r0 = linear(%linear, %w) : f32[n,2]
  %r1 = conv(%conv, %v) : f32[1,2,h-2,1]
  %r2 = instance_normalization(%norm, %s, %s) : f32[2,d,2]
  %r4, %h = rnn(%steps, %u, %r, initial_h=%state) {hidden_size = 1} : f32[2,1,f,1], f32[1,f,1]
  %r5 = gather(%table, %at) : f32[2,2]
  %r6, %i6 = top_k(%best, %three) {axis = 0} : f32[3], i64[3]
  %r7 = pad(%border, %both) {mode = "reflect"} : f32[k+4]
  %r8, %r9 = split(%split, split=%sizes) {axis = 0} : f32[2], f32[3]
  %r10 = grid_sample(%image, %grid) : f32[o,1,2,2]
  %r11, %m11, %v11 = layer_normalization(%row, %scale) {axis = -1} : f32[2,q], f32[2,1], f32[2,1]
  %r12 = arg_max(%row) {axis = 1, keepdims = 0} : i64[2]
  %r13 = attention(%keys, %keys, %keys, mask=%mask) {scale = 0.5} : f32[1,2,t,4]
  %r14 = einsum(%left, %right) {equation = "ab,bc->ac"} : f32[2,3]
  %r15 = gather_elements(%left, %places) {axis = 0} : f32[cc,dd]
  return %r0, %r1, %r2, %r4, %r5, %r6, %r7, %r8, %r9, %r10, %r11, %r12, %r13, %r14, %r15
}"""

FITS: dict[str, tuple[int, ...]] = {
    "linear": (2, 3), "conv": (1, 3, 4, 3), "norm": (2, 3, 2),
    "steps": (2, 5, 3), "state": (1, 5, 1), "table": (3, 2), "best": (3,), "border": (3,),
    "split": (5,), "grid": (1, 2, 2, 2), "image": (1, 1, 3, 3), "scale": (4,), "row": (2, 4),
    "keys": (1, 2, 5, 4), "mask": (5, 5), "left": (2, 2), "right": (2, 3), "places": (3, 2),
}  # fmt: skip

OTHERS = [
    ("linear", (2, 4), r"8 elements cannot become one of shape \[n, 3\]"),
    ("conv", (1, 2, 4, 3), r"24 elements cannot become one of shape \[1, 3, h, 3\]"),
    ("conv", (1, 3, 1, 3), "a result has -1 elements along an axis, should have at least 0"),
    ("norm", (2, 4, 2), r"16 elements cannot become one of shape \[2, 3, 2\]"),
    ("state", (1, 4, 1), r"4 elements cannot become one of shape \[1, f, 1\]"),
    ("table", (2, 2), "an operand has 2 elements along an axis, should have at least 3"),
    ("best", (2,), "an operand has 2 elements along an axis, should have at least 3"),
    ("border", (2,), "an operand has 2 elements along an axis, should have at least 3"),
    ("split", (6,), r"6 elements cannot become one of shape \[5\]"),
    ("grid", (2, 2, 2, 2), r"16 elements cannot become one of shape \[o, 2, 2, 2\]"),
    ("mask", (5, 4), "an operand has 4 elements along an axis, should have t or 1"),
    ("mask", (4, 5), "an operand has 4 elements along an axis, should have t or 1"),
    ("right", (4, 3), r"has 2 elements along an axis, should have broadcast\(aa,bb\) or 1"),
    ("places", (1, 3), "an operand has 2 elements along an axis, should have at least dd"),
    ("scale", (5,), r"5 elements cannot become one of shape \[q\]"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[leptonc.Session]:
    with leptonc.compile(parse_graph(TEXT), threads=1, isolated=False) as made:
        yield made


def _run(session: leptonc.Session, **other: tuple[int, ...]) -> dict[str, np.ndarray]:
    inputs = {name: np.ones(shape, np.float32) for name, shape in {**FITS, **other}.items()}
    return session.run({**inputs, "places": inputs["places"].astype(np.int64)})


def test_what_fits_runs(session: leptonc.Session) -> None:
    found = _run(session)
    assert found["r1"].shape == (1, 2, 2, 1)
    assert found["r11"].shape == (2, 4)


@pytest.mark.parametrize(("name", "shape", "message"), OTHERS)
def test_what_does_not_fit_ends_the_run(
    session: leptonc.Session, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(LeptonError, match=f"E707.*{message}"):
        _run(session, **{name: shape})
