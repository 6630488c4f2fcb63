"""Compiles magika, a model that tells the types of files, and asks it about this repository.

Run it with `make demo`, or `python demo/run.py [FILE...]` for files of your own.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import leptonc

ROOT = Path(__file__).parents[1]
ARTEFACT = ROOT / ".cache" / "demo" / "magika.lepton"
SAMPLES = (
    "README.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    ".gitignore",
    ".ci/run",
    ".pre-commit-config.yaml",
    "ir/graph.py",
    "tests/models/error_growth.json",
    "tests/data/topologies/resnet50.onnx",
)
CALLS = 20


@dataclass(frozen=True)
class Config:
    """What the model expects and what its answers mean, as its authors state it."""

    ends: int
    block: int
    padding: int
    labels: tuple[str, ...]
    thresholds: dict[str, float]
    threshold: float
    renamed: dict[str, str]

    @staticmethod
    def read(path: Path) -> Config:
        """Read the settings that stand beside the model."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Config(
            ends=content["beg_size"],
            block=content["block_size"],
            padding=content["padding_token"],
            labels=tuple(content["target_labels_space"]),
            thresholds=content["thresholds"],
            threshold=content["medium_confidence_threshold"],
            renamed=content["overwrite_map"],
        )


def package_file(suffix: str) -> Path:
    """A file of the installed magika package, which itself is not imported."""
    for file in importlib.metadata.distribution("magika").files or ():
        if file.as_posix().endswith(suffix):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the magika package has no file {suffix}")


def features(path: Path, config: Config) -> NDArray[np.int32]:
    """The first and last bytes of a file without outer white space, padded: int32 (1, 2048)."""
    with path.open("rb") as file:
        first = file.read(config.block).lstrip()[: config.ends]
        file.seek(max(path.stat().st_size - config.block, 0))
        last = file.read(config.block).rstrip()[-config.ends :]
    row = np.full(2 * config.ends, config.padding, np.int32)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[row.size - len(last) :] = np.frombuffer(last, np.uint8)
    return row[None]


def answer(scores: NDArray[np.float32], config: Config) -> tuple[str, float]:
    """The most likely type and its score; a doubtful one is marked so."""
    best = int(scores.argmax())
    label, score = config.labels[best], float(scores[best])
    sure = score >= config.thresholds.get(label, config.threshold)
    return config.renamed.get(label, label) + ("" if sure else "?"), score


def ask(session: leptonc.Session, row: NDArray[np.int32]) -> tuple[NDArray[np.float32], float]:
    """The scores of the types, and the seconds of the fastest of several calls."""
    fastest = float("inf")
    outputs: dict[str, NDArray[np.float32]] = {}
    for _ in range(CALLS):
        start = time.perf_counter()
        outputs = session.run({"bytes": row})
        fastest = min(fastest, time.perf_counter() - start)
    return outputs["target_label"][0], fastest


def compiled(console: Console) -> Path:
    """The saved artefact, compiled anew."""
    model = package_file("standard_v3_3/model.onnx")
    ARTEFACT.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    leptonc.compile(model, target="cpu", threads=1).save(ARTEFACT)
    seconds = time.perf_counter() - start
    size, shown = ARTEFACT.stat().st_size / 1e6, ARTEFACT.relative_to(ROOT)
    console.print(f"compiled {model.name} of magika in {seconds:.1f} s: {shown} ({size:.1f} MB)")
    return ARTEFACT


def main(arguments: list[str]) -> None:
    """Compile, save, load and ask."""
    console = Console()
    artefact = compiled(console)
    config = Config.read(package_file("standard_v3_3/config.min.json"))
    start = time.perf_counter()
    session = leptonc.load(artefact)
    console.print(f"loaded it in {(time.perf_counter() - start) * 1e3:.0f} ms")
    table = Table("file", "answer", "score", "latency")
    for name in arguments or SAMPLES:
        path = Path(name) if arguments else ROOT / name
        scores, seconds = ask(session, features(path, config))
        label, score = answer(scores, config)
        table.add_row(name, label, f"{score:.1%}", f"{seconds * 1e3:.2f} ms")
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
