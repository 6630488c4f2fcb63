"""One artefact at five sizes, one after the other: right numbers, and no memory that piles up."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import leptonc
from leptonc.runtime.native import native
from tests.models import inputs
from tests.models.inputs import Array, Feeds
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS, Model

CALLS = 1000
SECONDS = 0.5
"""Large models stop calling here: what a call of theirs leaves behind shows after a few."""
SLACK = 1 << 20
"""Freed blocks that glibc's threads keep at hand count as allocated: up to 230 KiB a thread."""


def named(name: str, make: Callable[..., Array], *arguments: int) -> Callable[[], Feeds]:
    return lambda: {name: make(*arguments)}


Sizes = tuple[Callable[[], Feeds], ...]


def _pages(height: int, width: int) -> Callable[[], Feeds]:
    return named("x", inputs.lines_of_text, 1, height, width, 2)


def _sentences(*shapes: tuple[int, int]) -> Sizes:
    return tuple(partial(inputs.sentences, b, s, 30522) for b, s in shapes)


def _tokens(words: int) -> Sizes:
    return tuple(named("input_ids", inputs.tokens, *shape, words) for shape in ((1, 21), (4, 3)))


def _streams(*shapes: tuple[int, int], rate: bool) -> Sizes:
    def make(streams: int, samples: int) -> Feeds:
        sound = inputs.notes(streams, samples, 16000)
        feeds = {"input": sound, "state": inputs.zeros(2, streams, 128)}
        return feeds | {"sr": inputs.scalar(16000)} if rate else feeds

    return tuple(partial(make, *shape) for shape in shapes)


def _again(model: Model, *counts: int) -> Sizes:
    """More of the first case of a model, by repeating its batch."""

    def repeated(count: int) -> Feeds:
        return {name: np.repeat(array, count, 0) for name, array in model.feeds().items()}

    return tuple(partial(repeated, count) for count in counts)


def _speech(frames: int) -> Feeds:
    sound = inputs.notes(1, 576 * frames, 16000).reshape(frames, 576)
    return {"input": sound, "h": inputs.zeros(1, 1, 128), "c": inputs.zeros(1, 1, 128)}


MORE: Mapping[str, Sizes] = {
    "ppocr_det": (_pages(128, 128), _pages(64, 224)),
    "ppocr_rec": (_pages(48, 96), _pages(48, 640)),
    "minilm_int8": _sentences((5, 7), (1, 64)),
    "bert_base": _sentences((5, 7), (1, 50)),
    "gpt2": _tokens(50257),
    "llama_tiny": _tokens(8192),
    "silero_vad_16k_op15": _streams((1, 400), (2, 576), rate=True),
    "silero_vad_half": _streams((1, 400), (2, 576), rate=False),
    "silero_vad_16k_sequence": (partial(_speech, 1), partial(_speech, 20)),
}
"""Two sizes beside those of the zoo; models that are missing here have a batch to repeat."""

DYNAMIC = [model for model in MODELS.values() if len(model.cases) >= 3]


class _Allocated(ctypes.Structure):
    """What glibc's mallinfo2 gives."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocated() -> int:
    """The bytes that are allocated now; unlike resident memory, holes in between do not count."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("only glibc 2.33 and later tells how much is allocated")
    library.mallinfo2.restype = _Allocated
    now = library.mallinfo2()
    return now.uordblks + now.hblkhd + 512 * sys.getallocatedblocks()


def alternate(session: leptonc.Session, feeds: Sequence[Feeds]) -> None:
    """Run all sizes in turn; raise where what is allocated keeps growing.

    Every size runs twice before anything is measured.
    """
    for given in (*feeds, *feeds):
        session.run(given)
    before, start = _held(session, feeds[-1]), time.monotonic()
    for call in range(CALLS):
        session.run(feeds[call * 3 % len(feeds)])
        if time.monotonic() - start > SECONDS and call > 2 * len(feeds):
            break
    assert _held(session, feeds[-1]) - before <= SLACK


def _held(session: leptonc.Session, given: Feeds) -> int:
    """What is allocated behind a call, which keeps its outputs, after what calls before it kept.

    Sessions keep memory of up to four sizes, so the fifth decides which are kept. Threads give back
    what they freed late: the least of a few looks is right.
    """
    looks: list[int] = []
    for _ in range(3):
        native().forget_memory()
        session.run(given)
        gc.collect()
        looks.append(allocated())
    return min(looks)


@pytest.mark.parametrize("model", [pytest.param(model, id=model.name) for model in DYNAMIC])
def test_a_real_model_at_five_sizes(model: Model) -> None:
    more = MORE.get(model.name) or _again(model, 4, 5)
    feeds = [make() for make in (*model.cases, *more)[:5]]
    with leptonc.compile(model.path(), target="cpu") as session:
        for given in feeds:
            check(model, session.run(given), run_onnxruntime(model.path(), given))
        alternate(session, feeds)


RANDOM = np.random.default_rng(3)
SIZES = (3, 40, 1, 17, 64)


@dataclass(frozen=True)
class Small:
    """A model of a few nodes, and its inputs by size."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Mapping[str, tuple[int, Sequence[int | str | None]]]
    outputs: Mapping[str, int]
    feeds: Callable[[int], Feeds]
    constants: Mapping[str, Array]

    def proto(self) -> onnx.ModelProto:
        """The model."""
        graph = helper.make_graph(
            list(self.nodes),
            "small",
            [helper.make_tensor_value_info(n, t, s) for n, (t, s) in self.inputs.items()],
            [
                helper.make_tensor_value_info(name, type, None)
                for name, type in self.outputs.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


node, FLOAT, INT = helper.make_node, TensorProto.FLOAT, TensorProto.INT64
integers = partial(np.array, dtype=np.int64)
singles = partial(np.array, dtype=np.float32)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def _boxes(count: int) -> Feeds:
    low = RANDOM.uniform(0, 50, (1, count, 2))
    boxes = np.concatenate([low, low + RANDOM.uniform(1, 20, (1, count, 2))], 2)
    return {
        "boxes": boxes.astype(np.float32),
        "scores": RANDOM.uniform(0, 1, (1, 3, count)).astype(np.float32),
    }


SMALL = {
    "hits": Small(
        [
            node("Greater", ["x", "limit"], ["mask"]),
            node("NonZero", ["mask"], ["places"]),
            node("Transpose", ["places"], ["columns"]),
            node("GatherND", ["x", "columns"], ["found"]),
            node("Unique", ["small"], ["values", "", "inverse", "counts"]),
            node("Squeeze", ["flags"], ["condition"]),
            node("Compress", ["x", "condition"], ["rows"], axis=0),
        ],
        {"x": (FLOAT, ["n", 5]), "small": (INT, ["n"]), "flags": (TensorProto.BOOL, ["n", 1])},
        {
            "places": INT, "found": FLOAT, "values": INT, "inverse": INT, "counts": INT,
            "rows": FLOAT,
        },
        lambda n: {
            "x": normal(n, 5), "small": RANDOM.integers(0, 9, n),
            "flags": RANDOM.integers(0, 2, (n, 1)).astype(bool),
        },
        {"limit": singles(0.5)},
    ),
    "boxes": Small(
        [
            node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"]),
            node("Slice", ["chosen", "two", "three", "one"], ["columns"]),
            node("Squeeze", ["columns", "one"], ["places"]),
            node("Gather", ["boxes", "places"], ["kept"], axis=1),
                    ],
        {"boxes": (FLOAT, [1, "n", 4]), "scores": (FLOAT, [1, 3, "n"])},
        {"chosen": INT, "kept": FLOAT},
        _boxes,
        {
            "most": integers([20]), "overlap": singles([0.3]), "least": singles([0.2]),
            "one": integers([1]), "two": integers([2]), "three": integers([3]),
        },
    ),
    "ranges": Small(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["n"]),
            node("Range", ["zero", "n", "one"], ["row"]),
            node("Unsqueeze", ["row", "axis"], ["column"]),
            node("Unsqueeze", ["n", "first"], ["square_n"]),
            node("Concat", ["square_n", "square_n"], ["square"], axis=0),
            node("Expand", ["row", "square"], ["across"]),
            node("Less", ["column", "across"], ["later"]),
            node("Transpose", ["x"], ["turned"]),
            node("MatMul", ["x", "turned"], ["scores"]),
            node("Where", ["later", "low", "scores"], ["masked"]),
            node("Softmax", ["masked"], ["weights"]),
        ],
        {"x": (FLOAT, ["n", 8])},
        {"weights": FLOAT, "across": INT},
        lambda n: {"x": normal(n, 8)},
        {
            "zero": integers(0), "one": integers(1), "axis": integers([1]),
            "first": integers([0]), "low": singles(-1e9),
        },
    ),
    "told": Small(
        [
            node("Slice", ["x", "start", "end", "axis"], ["part"]),
            node("Pad", ["part", "pads"], ["padded"]),
            node("TopK", ["padded", "k"], ["best", "where"], axis=0),
            node("Resize", ["image", "", "", "size"], ["resized"], mode="linear"),
            node("Reshape", ["padded", "shape"], ["flat"]),
        ],
        {
            "x": (FLOAT, ["n", 3]), "start": (INT, [1]), "end": (INT, [1]), "pads": (INT, [4]),
            "k": (INT, [1]), "image": (FLOAT, [1, 2, "h", "w"]), "size": (INT, [4]),
            "shape": (INT, [2]),
        },
        {"padded": FLOAT, "best": FLOAT, "where": INT, "resized": FLOAT, "flat": FLOAT},
        lambda n: {
            "x": normal(n, 3), "start": integers([n // 4]), "end": integers([n]),
            "pads": integers([n // 3, 0, 1, 0]), "k": integers([n // 2 + 1]),
            "image": normal(1, 2, n // 4 + 2, n // 8 + 2),
            "size": integers([1, 2, n + 1, n // 2 + 1]), "shape": integers([3, -1]),
        },
        {"axis": integers([0])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_sizes_that_data_decides(name: str, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(SMALL[name].proto().SerializeToString())
    feeds = [SMALL[name].feeds(size) for size in SIZES]
    expected = [run_onnxruntime(path, given) for given in feeds]
    with leptonc.compile(path, isolated=False) as session:
        for _ in range(2):  # once more after the alternating calls
            for given, wanted in zip(feeds, expected, strict=True):
                outputs = session.run(given)
                assert list(outputs) == list(wanted)
                for output, theirs in wanted.items():
                    assert outputs[output].shape == theirs.shape
                    np.testing.assert_allclose(outputs[output], theirs, rtol=1e-5, atol=1e-5)
            alternate(session, feeds)
