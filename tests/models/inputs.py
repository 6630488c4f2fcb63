"""Structured inputs for real models: pictures, rendered text, sound, tokens and bytes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = dict[str, Array]

LETTERS = {
    " ": "0000000000000000000",
    "C": "01110100011000010000100001000101110",
    "E": "11111100001000011110100001000011111",
    "L": "10000100001000010000100001000011111",
    "N": "10001110011010110011100011000110001",
    "O": "01110100011000110001100011000101110",
    "P": "11110100011000111110100001000010000",
    "R": "11110100011000111110101001001010001",
    "T": "11111001000010000100001000010000100",
}


def picture(height: int, width: int, seed: int = 0) -> Array:
    """A grey gradient with disks, bars and a checkerboard in colours, float32 (3, H, W) in 0..1."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    plane = (rows / height + columns / width) / 2
    result = np.stack([plane, plane[::-1], plane[:, ::-1]])
    for _ in range(8):
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(0.05, 0.3) * min(height, width)
        disk = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        result[:, disk] = generator.uniform(0, 1, (3, 1))
    bars = (columns // max(width // 16, 1)) % 2 > 0
    result[:, bars & (rows > height * 0.8)] = 1
    checks = (rows // 4 + columns // 4) % 2 > 0
    result[:, checks & (rows < height * 0.15) & (columns < width * 0.3)] = 0
    return result.astype(np.float32)


def pictures(count: int, height: int, width: int) -> Array:
    """Different pictures, normalised as image networks want them: float32 (N, 3, H, W)."""
    stack = np.stack([picture(height, width, seed) for seed in range(count)])
    return ((stack - 0.45) / 0.225).astype(np.float32)


def written(text: str, height: int, width: int, scale: int) -> Array:
    """Dark letters on a light ground, drawn with a 5x7 font: float32 (3, H, W) in -1..1."""
    page = np.full((height, width), 0.9, np.float32)
    top, left = (height - 7 * scale) // 2, scale * 2
    for letter in text:
        if left + 5 * scale > width:
            break
        bits = np.array([int(bit) for bit in LETTERS[letter].ljust(35, "0")]).reshape(7, 5)
        glyph = np.kron(bits, np.ones((scale, scale)))
        page[top : top + 7 * scale, left : left + 5 * scale] -= 0.8 * glyph
        left += 6 * scale
    soft = page.copy()
    soft[1:-1, 1:-1] = (
        page[:-2, 1:-1] + page[2:, 1:-1] + page[1:-1, :-2] + page[1:-1, 2:] + 2 * page[1:-1, 1:-1]
    ) / 6
    return np.stack([soft * 2 - 1] * 3).astype(np.float32)


def lines_of_text(count: int, height: int, width: int, scale: int) -> Array:
    """Rendered text, a different line for each image: float32 (N, 3, H, W)."""
    lines = ("LEPTON COPTER", "TENOR CELLO", "CONCRETE NOTE")
    return np.stack([written(lines[n % 3], height, width, scale) for n in range(count)])


def notes(count: int, samples: int, rate: int = 22050) -> Array:
    """Decaying chords over a little noise, as a room has it: float32 (N, samples)."""
    generator = np.random.default_rng(samples)
    time = np.arange(samples) / rate
    chords = ((220.0, 277.2, 329.6), (146.8, 440.0), (261.6, 392.0, 523.3))
    result = generator.normal(0, 0.02, (count, samples))
    for index in range(count):
        for number, pitch in enumerate(chords[index % 3]):
            since = np.maximum(time - 0.3 * number, 0)
            result[index] += 0.3 * np.exp(-2 * since) * np.sin(2 * np.pi * pitch * since)
    return result.astype(np.float32)


def speech(seconds: float, rate: int, seed: int = 0) -> Array:
    """Syllables of a voice with moving formants, hissing and pauses between them: float32 (N,)."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time) + 10 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(time)
    centres = (500 + 250 * np.sin(9 * time), 1500 + 600 * np.sin(6 * time + 1), 2600 + 0 * time)
    for harmonic in range(1, int(rate / 2 / 160)):
        level = sum(np.exp(-(((harmonic * pitch - c) / 160) ** 2)) for c in centres) + 0.03
        voice += level * np.sin(harmonic * phase) / np.sqrt(harmonic)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0, 1) ** 0.5
    phrases = (np.sin(2 * np.pi * 0.45 * time + 0.4) > -0.3).astype(np.float64)
    hiss = generator.normal(0, 0.15, time.size) * np.clip(-np.sin(2 * np.pi * 3.1 * time), 0, 1)
    sound = phrases * (syllables * voice + hiss) * 0.25 + generator.normal(0, 0.003, time.size)
    return sound.astype(np.float32)


def spectrogram(bands: int, frames: int) -> Array:
    """A log spectrogram with rising formants, float32 (1, bands, frames)."""
    band, frame = np.mgrid[0:bands, 0:frames].astype(np.float32)
    energy = np.full((bands, frames), -0.6, np.float32)
    for start, slope in ((8, 0.01), (25, -0.004), (45, 0.006)):
        energy += 1.4 * np.exp(-(((band - start - slope * frame) / 3) ** 2))
    energy *= 0.75 + 0.25 * np.sin(frame / 25)
    return energy[None].astype(np.float32)


def tokens(batch: int, length: int, vocabulary: int) -> Array:
    """Token numbers, int64 (batch, length)."""
    generator = np.random.default_rng(batch * 1000 + length)
    return generator.integers(5, vocabulary, (batch, length))


def sentences(batch: int, length: int, vocabulary: int) -> Feeds:
    """Inputs of an encoder: tokens, a mask whose last row ends in padding, and token types."""
    mask = np.ones((batch, length), np.int64)
    if batch > 1:
        mask[-1, length * 2 // 3 :] = 0
    types = np.zeros((batch, length), np.int64)
    types[:, length // 2 :] = 1
    return {
        "input_ids": tokens(batch, length, vocabulary),
        "attention_mask": mask,
        "token_type_ids": types,
    }


def files(count: int) -> Array:
    """The ends of small texts, 1,024 bytes each, padded with 256 for magika: int32 (N, 2048)."""
    texts = (
        b"#!/usr/bin/env python3\nimport sys\n\nfor line in sys.stdin:\n    print(line.upper())\n",
        b'{"name": "leptonc", "version": [0, 1, 0], "tags": ["onnx", "compiler"]}\n',
        b"# Title\n\nSome *text* with a [link](https://example.org).\n\n* one\n* two\n",
    )
    result = np.full((count, 2048), 256, np.int32)
    for index in range(count):
        content = np.frombuffer(texts[index % 3], np.uint8)
        result[index, : content.size] = content
        result[index, 2048 - content.size :] = content
    return result


def zeros(*shape: int) -> Array:
    """A fresh state, float32."""
    return np.zeros(shape, np.float32)


def scalar(value: int) -> Array:
    """A number as models take it, int64 without extents."""
    return np.array(value, np.int64)
