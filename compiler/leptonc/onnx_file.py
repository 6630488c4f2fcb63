"""The gate every model comes through: what it is, whether it is whole, which versions it speaks."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.onnx_external import Folder
from leptonc.onnx_wire import MalformedError, check_top_level, cut_model

Source: TypeAlias = "str | Path | bytes | onnx.ModelProto"
"""A model: the path of a file, its content, or the message."""

_LOOKS_LIKE = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a zip archive (as PyTorch's .pt files and leptonc's artefacts are)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file (as Keras writes)"),
    (b"version https://git-lfs", "a pointer of Git LFS; run git lfs pull to get the file"),
    (b"\x7fELF", "a program or library"),
    (b"<", "an HTML or XML page"),
    (b"{", "JSON text"),
    (b"#", "text"),
)
_LOOKS_LIKE_FROM_4 = ((b"TFL3", "a TensorFlow Lite model"), (b"ORTM", "an ORT-format model"))


@dataclass(frozen=True)
class OnnxFile:
    """A model whose outer shape is known to be sound."""

    model: onnx.ModelProto
    data: Mapping[bytes, memoryview]
    """Views of the large raw data, by the token that stands for each in `model`."""
    folder: Folder
    opsets: Mapping[str, int]
    """The version of each domain the model imports; ONNX's own domain is the empty name."""
    faults: tuple[LeptonError, ...] = ()
    """What is wrong with those versions; the rest of the model can be looked at all the same."""


def read_model(source: Source, *, folder: Path | None = None, untrusted: bool = False) -> OnnxFile:
    """Open a model; raises E011 where it is none. Versions unknown here are its `faults`.

    `folder` holds the external data of a model that is not a file. What is `untrusted` is read
    rather than mapped, so that it cannot change or shrink under us.
    """
    where = None if folder is None else folder / "model.onnx"
    if isinstance(source, onnx.ModelProto):
        model, data = source, dict[bytes, memoryview]()
    else:
        if isinstance(source, bytes):
            view = memoryview(source)
        else:
            where = Path(source)
            view = _view_of(where, untrusted=untrusted)
        model, data = _parse(view)
    if not model.HasField("graph"):
        raise LeptonError("the file is no ONNX model: it has no graph", code="E011")
    opsets, faults = _versions(model)
    return OnnxFile(model, data, Folder(where, untrusted), opsets, tuple(faults))


def _view_of(path: Path, *, untrusted: bool) -> memoryview:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LeptonError(f"cannot open {shown(path)}: {reason}", code="E011") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise LeptonError(f"cannot open {shown(path)}: it is no ordinary file", code="E011")
    with os.fdopen(descriptor, "rb") as file:
        if untrusted or status.st_size == 0:
            return memoryview(file.read())
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def _parse(view: memoryview) -> tuple[onnx.ModelProto, dict[bytes, memoryview]]:
    if not len(view):
        raise LeptonError("the file is no ONNX model: it is empty", code="E011")
    try:
        check_top_level(view)
        cut = cut_model(view)
    except MalformedError as error:
        likeness = _likeness(bytes(view[:64]))
        if likeness:
            raise LeptonError(f"the file is no ONNX model but {likeness}", code="E011") from None
        if error.sound and _is_model(view[: error.sound]):
            error.notes.append(f"its first {error.sound} bytes of {len(view)} are a whole model")
        raise
    try:
        return onnx.ModelProto.FromString(cut.message), cut.data
    except DecodeError as error:
        raise LeptonError(
            "the file is no ONNX model: its parts are not what protobuf expects, or nested deeper "
            "than 100 levels",
            code="E011",
        ) from error


def _is_model(view: memoryview) -> bool:
    try:
        cut = cut_model(view)
        return onnx.ModelProto.FromString(cut.message).HasField("graph")
    except (DecodeError, LeptonError):
        return False


def _likeness(head: bytes) -> str:
    for magic, name in _LOOKS_LIKE:
        if head.startswith(magic):
            return name
    for magic, name in _LOOKS_LIKE_FROM_4:
        if head[4:].startswith(magic):
            return name
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, which is never opened"
    return ""


def _versions(model: onnx.ModelProto) -> tuple[dict[str, int], list[LeptonError]]:
    """The opset of each domain, and what is wrong with the versions a model asks for.

    Where they cannot be had, the rest of the model is read as if for the newest there are.
    """
    writer = f"; it was written by {shown(model.producer_name)}" if model.producer_name else ""
    opsets, faults = read_opsets(model.opset_import, "the model", writer)
    if model.ir_version > onnx.IR_VERSION:
        message = (
            f"the model has IR version {model.ir_version}, newer than {onnx.IR_VERSION}{writer}"
        )
        faults.insert(0, LeptonError(message, notes=[_NEWER.format("version")], code="E012"))
    if not model.opset_import:
        faults.append(LeptonError("the model does not say which opset it uses", code="E012"))
        opsets[""] = onnx.defs.onnx_opset_version()
    return opsets, faults


_NEWER = "install a newer onnx package, or export the model again for an older {}"


def read_opsets(
    imports: Iterable[onnx.OperatorSetIdProto], what: str, writer: str = ""
) -> tuple[dict[str, int], list[LeptonError]]:
    """Versions by domain, ONNX's own being the empty name, and what is wrong with them (E012).

    The first of two versions counts, and the newest known in place of those that do not exist.
    """
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": _newest_ml()}
    opsets: dict[str, int] = {}
    faults: list[LeptonError] = []
    for item in imports:
        domain, version = domain_of(item.domain), item.version
        name = f"opset {version}" + (f" of {domain}" if domain else "")
        known = newest.get(domain, version)
        if version > known:
            message = f"{what} has {name}, newer than {known}{writer}"
            faults.append(LeptonError(message, notes=[_NEWER.format("opset")], code="E012"))
        elif version < 1 and domain in newest:
            message = f"{what} has {name}, the first one is 1{writer}"
            faults.append(LeptonError(message, code="E012"))
        valid = version if 1 <= version <= known or domain not in newest else known
        if opsets.setdefault(domain, valid) != valid:
            message = (
                f"{what} imports versions {opsets[domain]} and {version} of the domain "
                f"{shown(domain or 'ai.onnx')}"
            )
            faults.append(LeptonError(message, code="E012"))
    return opsets, faults


def _newest_ml() -> int:
    return max(int(row[3]) for row in onnx.helper.VERSION_TABLE)


def domain_of(domain: str) -> str:
    """A domain's one name: ONNX's own may be spelled two ways."""
    return "" if domain == "ai.onnx" else domain
