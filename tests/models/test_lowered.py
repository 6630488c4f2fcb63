"""Real models in bf16, beside themselves in fp32."""

from __future__ import annotations

import pytest

import leptonc
from leptonc.backends.cpu.target import detect, multiplies_bf16
from leptonc.precision import deviation
from tests.models.zoo import MODELS

PAIRS = "cpu:isa=avx512-bf16,spelled_out=true"
MOST = 2**-6
"""What roundings of all layers add up to, in root mean squares."""


@pytest.mark.parametrize("target", ["cpu", PAIRS])
def test_models_in_bf16_are_off_by_roundings(target: str) -> None:
    model = MODELS["llama_tiny"]
    feeds = model.feeds()
    with leptonc.compile(model.path(), target=target, precision="bf16", threads=1) as session:
        told = session.manifest.provenance["precision"]
        got = session.run(feeds)
    with leptonc.compile(model.path(), threads=1) as exact:
        want = exact.run(feeds)
    attention = 4 if target == PAIRS or multiplies_bf16(detect()) else 0
    assert len(told["lowered"]) == 29 + attention
    for output, array in want.items():
        off = deviation(got[output], array)
        assert 1e-5 < off.mean < MOST
