# pyright: standard
"""Voice detectors over whole streams: the state that one run gives back is what the next takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import onnxruntime
import pytest

import leptonc
from tests.models import inputs
from tests.models.inputs import Array, Feeds
from tests.models.zoo import MODELS

CHUNKS = 40
NEAR = 2e-4
"""How far probabilities may drift apart over a stream, state and all."""

Run = Callable[[Feeds], Mapping[str, Array]]


def theirs(name: str) -> Run:
    """Onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    path = str(MODELS[name].path())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Feeds) -> dict[str, Array]:
        return dict(zip(names, cast(list[Array], session.run(names, feeds)), strict=True))

    return run


def detected(run: Run, rate: int, *, told: bool) -> Array:
    """The probability of speech in each chunk, and the last state behind them."""
    size = 512 if rate == 16000 else 256
    context = size // 8
    sound = inputs.speech(CHUNKS * size / rate, rate)
    padded = np.concatenate([np.zeros(context, np.float32), sound])
    state, found = inputs.zeros(2, 1, 128), list[Array]()
    for chunk in range(CHUNKS):
        window = padded[chunk * size : (chunk + 1) * size + context]
        feeds = {"input": window[None], "state": state}
        results = run(feeds | {"sr": inputs.scalar(rate)} if told else feeds)
        state = results["stateN"]
        found.append(results["output"].reshape(-1))
    return np.concatenate([*found, state.reshape(-1)])


def agree(mine: Array, reference: Array) -> None:
    """The same probabilities, of sound in which some chunks are speech and others are not."""
    assert np.ptp(reference[:CHUNKS]) > 0.3
    np.testing.assert_allclose(mine, reference, rtol=NEAR, atol=NEAR)


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_op18_ifless"])
def test_one_artefact_detects_at_two_rates(name: str) -> None:
    """The rate chooses between two networks when the artefact runs."""
    reference = theirs(name)
    with leptonc.compile(MODELS[name].path(), threads=1, isolated=False) as session:
        for rate in (16000, 8000, 16000):
            mine = detected(session.run, rate, told=True)
            agree(mine, detected(reference, rate, told=True))


@pytest.mark.parametrize(
    ("name", "told"),
    [("silero_vad_half", False), ("silero_vad_16k_op15", True), ("silero_vad_openvino_16k", False)],
)
def test_streams_of_one_rate(name: str, told: bool) -> None:
    with leptonc.compile(MODELS[name].path(), threads=1, isolated=False) as session:
        mine = detected(session.run, 16000, told=told)
    agree(mine, detected(theirs(name), 16000, told=told))


def test_streams_in_pieces_of_several_chunks() -> None:
    """However a stream is cut, the layer goes on from the state it had."""
    name = "silero_vad_16k_sequence"
    sound = inputs.speech(CHUNKS * 512 / 16000, 16000)
    padded = np.concatenate([np.zeros(64, np.float32), sound])
    windows = np.stack([padded[at * 512 : at * 512 + 576] for at in range(CHUNKS)])

    def probabilities(run: Run, cuts: list[int]) -> Array:
        h, c, found = inputs.zeros(1, 1, 128), inputs.zeros(1, 1, 128), list[Array]()
        for piece in np.split(windows, np.cumsum(cuts)[:-1]):
            results = run({"input": piece, "h": h, "c": c})
            h, c = results["hn"], results["cn"]
            found.append(results["speech_probs"])
        return np.concatenate([*found, h.reshape(-1), c.reshape(-1)])

    reference = probabilities(theirs(name), [CHUNKS])
    with leptonc.compile(MODELS[name].path(), threads=1, isolated=False) as session:
        agree(probabilities(session.run, [CHUNKS]), reference)
        agree(probabilities(session.run, [1, 7, 16, 3, 1, 12]), reference)
