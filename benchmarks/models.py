"""The models that are measured: real, quantised, and of classical learning."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.inputs import Feeds
from tests.models.quantised import Variant
from tests.models.reference import read_growth, tolerance
from tests.models.zoo import MODELS, Model

QUANTISED = (
    ("magika", "qdq-signed"), ("magika", "operators"), ("silero_vad_openvino_16k", "qdq"),
    ("ppocr_cls", "dynamic"), ("timm_resnet18", "qdq"),
)  # fmt: skip
CLASSICAL: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("forest", "ensemble.RandomForestClassifier", {"n_estimators": 50, "max_depth": 8}),
    ("boosting", "ensemble.GradientBoostingRegressor", {"n_estimators": 50}),
    ("machine", "svm.SVC", {}),
)
FOR_SPEED = (
    ("resnet50", "qdq"), ("mobilenetv2", "qdq"), ("bert_base", "dynamic"),
)  # fmt: skip
"""Those quantised models that only speed is measured of."""
ONE_STEP = 0.15
"""What quantised models may differ by: where a step of quantisation falls the other way."""
BF16 = 0.25
"""What models in bf16 may differ by where roundings of many layers add up."""
ROUNDING = 1e-4
"""What others may differ by, in root mean squares of an output."""


@dataclass(frozen=True)
class Case:
    """A model as a file, what to feed it, and how far its outputs may be off, in their spreads."""

    name: str
    kind: str
    write: Callable[[Path], Path]
    """Gives the path of the model; makes it in the given folder where it is no file yet."""
    feeds: Callable[[], Feeds]
    tolerance: float
    precision: str = "fp32"
    """What it is compiled in."""
    floats: Callable[[Path], Path] | None = None
    """Gives the path of the same model in fp32, where this one computes otherwise."""

    @property
    def is_of_floats(self) -> bool:
        """True where float64 says what its outputs should be; others round by themselves."""
        return self.kind in ("fp32", "bf16")


def cases() -> Iterator[Case]:
    """All of them."""
    for model in MODELS.values():
        kind = "int8" if model.name.endswith("_int8") else "fp32"
        yield Case(model.name, kind, _shipped(model), model.feeds, _allowed(model))
    yield from _all_quantised(QUANTISED)
    rows = np.random.default_rng(1).standard_normal((20, 10)).astype(np.float32)
    for name, estimator, parameters in CLASSICAL:
        write = _trained(name, estimator, parameters)
        yield Case(name, "classical", write, lambda: {"x": rows}, ROUNDING)


def more_quantised() -> Iterator[Case]:
    """Larger quantised models."""
    yield from _all_quantised(FOR_SPEED)


def in_bf16() -> Iterator[Case]:
    """The models of floats, computed in bf16."""
    for case in cases():
        if case.kind == "fp32":
            name = f"{case.name}-bf16"
            bf16 = replace(case, name=name, kind="bf16", tolerance=BF16, precision="bf16")
            yield replace(bf16, floats=case.write)


def _all_quantised(names: Sequence[tuple[str, str]]) -> Iterator[Case]:
    for name, form in names:
        variant = Variant(MODELS[name], form)
        write, floats = _quantised(variant), _shipped(variant.model)
        yield Case(variant.name, "int8", write, variant.model.feeds, ONE_STEP, floats=floats)


def _allowed(model: Model) -> float:
    growth = read_growth().get(model.name, {})
    return max((tolerance(model, output) for output in growth), default=ROUNDING)


def _shipped(model: Model) -> Callable[[Path], Path]:
    return lambda folder: model.path()


def _quantised(variant: Variant) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "quantised.onnx"
        variant.write(path)
        return path

    return write


def _trained(name: str, estimator: str, parameters: dict[str, Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        module, _, kind = estimator.partition(".")
        random = np.random.default_rng(0)
        x = random.standard_normal((400, 10)).astype(np.float32)
        y = x[:, 0] * x[:, 1] + x[:, 2]
        made: Any = getattr(importlib.import_module(f"sklearn.{module}"), kind)
        y = y if kind.endswith("Regressor") else np.digitize(y, [-0.5, 0.5])
        fitted = made(random_state=0, **parameters).fit(x, y)
        convert: Any = importlib.import_module("skl2onnx")
        types: Any = importlib.import_module("skl2onnx.common.data_types")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert.convert_sklearn(
                fitted, name, [("x", types.FloatTensorType([None, 10]))],
                options={id(fitted): {"zipmap": False}} if hasattr(fitted, "classes_") else None,
                target_opset={"": 18, "ai.onnx.ml": 3},
            )  # fmt: skip
        path = folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write
