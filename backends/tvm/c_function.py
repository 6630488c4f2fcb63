# pyright: standard
"""Kernels that call a C function of another package, written as the text of LLVM's language.

A kernel builds the arrays of `lepton_tensor` on its stack and calls through a slot: a pointer in
the library that the runtime fills when it loads the shared library with the function. Nothing of
that library is needed to build, and no symbol of it can meet another one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType

import tvm
import tvm_ffi

from leptonc.backends.tvm.source import KernelSource
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.extension import ABI_DTYPE, AttributeTensor, CFunction, attribute_tensor
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType

BIND = "leptonc_bind_{}"
"""The function of a library that fills a slot with an address."""

_ARGUMENT = 16
_COMMON = """\
%lepton_tensor = type { ptr, ptr, i32, i32 }

define internal void @describe(ptr %argument, ptr %to, i32 %dtype) {
  %kind = load i32, ptr %argument
  %object.at = getelementptr i8, ptr %argument, i64 8
  %object = load ptr, ptr %object.at
  %plain = icmp eq i32 %kind, 7
  %inside = getelementptr i8, ptr %object, i64 24
  %tensor = select i1 %plain, ptr %object, ptr %inside
  %data = load ptr, ptr %tensor
  %rank.at = getelementptr i8, ptr %tensor, i64 16
  %rank = load i32, ptr %rank.at
  %shape.at = getelementptr i8, ptr %tensor, i64 24
  %shape = load ptr, ptr %shape.at
  %offset.at = getelementptr i8, ptr %tensor, i64 40
  %offset = load i64, ptr %offset.at
  %start = getelementptr i8, ptr %data, i64 %offset
  %to.shape = getelementptr i8, ptr %to, i64 8
  %to.rank = getelementptr i8, ptr %to, i64 16
  %to.dtype = getelementptr i8, ptr %to, i64 20
  store ptr %start, ptr %to
  store ptr %shape, ptr %to.shape
  store i32 %rank, ptr %to.rank
  store i32 %dtype, ptr %to.dtype
  ret void
}
"""

_SLOT = """\
@leptonc_slot_SLOT = global ptr null
@message.SLOT = private constant [LENGTH x i8] c"MESSAGE"

define i32 @__tvm_ffi_leptonc_bind_SLOT(ptr %self, ptr %arguments, i32 %count, ptr %result) {
  %at = getelementptr i8, ptr %arguments, i64 8
  %address = load ptr, ptr %at
  store ptr %address, ptr @leptonc_slot_SLOT
  ret i32 0
}

define void @leptonc_failed_SLOT(i32 %status) {
entry:
  %digits = alloca [13 x i8]
  %parts = alloca [2 x ptr]
  %end = getelementptr i8, ptr %digits, i64 12
  store i8 0, ptr %end
  %wide = sext i32 %status to i64
  %negative = icmp slt i64 %wide, 0
  %opposite = sub i64 0, %wide
  %size = select i1 %negative, i64 %opposite, i64 %wide
  br label %digit
digit:
  %left = phi i64 [ %size, %entry ], [ %rest, %digit ]
  %at = phi i64 [ 12, %entry ], [ %next, %digit ]
  %next = sub i64 %at, 1
  %one = urem i64 %left, 10
  %letter = add i64 %one, 48
  %byte = trunc i64 %letter to i8
  %place = getelementptr i8, ptr %digits, i64 %next
  store i8 %byte, ptr %place
  %rest = udiv i64 %left, 10
  %more = icmp ne i64 %rest, 0
  br i1 %more, label %digit, label %sign
sign:
  %before = sub i64 %next, 1
  %minus = getelementptr i8, ptr %digits, i64 %before
  store i8 45, ptr %minus
  %first = select i1 %negative, i64 %before, i64 %next
  %text = getelementptr i8, ptr %digits, i64 %first
  store ptr @message.SLOT, ptr %parts
  %second = getelementptr i8, ptr %parts, i64 8
  store ptr %text, ptr %second
  call void @TVMFFIErrorSetRaisedFromCStrParts(ptr @kind, ptr %parts, i32 2)
  ret void
}
"""

_CALL = """\
  %function = load ptr, ptr @leptonc_slot_SLOT
  %bound = icmp ne ptr %function, null
  br i1 %bound, label %go, label %unbound
go:
  %status = call i32 %function(ptr %in, i32 IN, ptr %out, i32 OUT)
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %done, label %failed
done:
  ret i32 0
failed:
  call void @leptonc_failed_SLOT(i32 %status)
  ret i32 -1
unbound:
  call void @TVMFFIErrorSetRaisedFromCStr(ptr @kind, ptr @message)
  ret i32 -1
}
"""

_TYPE = MappingProxyType({DType.I64: "i64", DType.F64: "double", DType.U8: "i8", DType.BOOL: "i8"})


def c_operation(source: KernelSource) -> Op | None:
    """The operation of a kernel that a C function computes."""
    found = [op for op in source.graph if op.definition.takes_memory]
    if not found:
        return None
    if len(found) > 1 or len(source.graph) != 2:
        raise LeptonBug(f"{found[0].name} shares a kernel with others", found[0].location)
    return found[0]


def function_of(op: Op) -> CFunction:
    """The C function that computes an operation."""
    extension = op.definition.extension
    assert extension is not None
    assert extension.function is not None
    return extension.function


def write_kernel(source: KernelSource, op: Op, target: tvm.target.Target, path: Path) -> None:
    """Write the object file of a kernel that calls a C function."""
    _write_object(kernel_text(source, op), target, path)


def write_slots(ops: Iterable[Op], target: tvm.target.Target, path: Path) -> None:
    """Write the object file with a slot for each function that these operations call."""
    parts = [
        "declare void @TVMFFIErrorSetRaisedFromCStrParts(ptr, ptr, i32)\n"
        '@kind = private constant [13 x i8] c"RuntimeError\\00"\n'
    ]
    for slot, op in {function_of(op).slot: op for op in ops}.items():
        message = f"operator {op.name} failed with status "
        text = _SLOT.replace("SLOT", slot).replace("LENGTH", str(len(message.encode()) + 1))
        parts.append(text.replace("MESSAGE", _escaped(message.encode() + b"\0")))
    _write_object("\n".join(parts), target, path)


def kernel_text(source: KernelSource, op: Op) -> str:
    """The kernel in LLVM's language: its arguments are the inputs, scalars, then the outputs."""
    constants: list[str] = []
    inputs = {value: index for index, value in enumerate(source.graph.inputs)}
    first = len(source.graph.inputs) + len(source.scalars)
    outputs = {value: first + index for index, value in enumerate(source.graph.outputs)}
    lines = _tensors("in", [(v, inputs.get(v) if v else None) for v in _operands(op)])
    count = len(_operands(op))
    for name, attr in op.definition.attrs.items():
        data = attribute_tensor(attr.kind, op.attrs.get(name))
        lines += _attribute(f"in.{count}", name, data, constants)
        count += 1
    lines += _tensors("out", [(value, outputs.get(value)) for value in op.results])
    slot = function_of(op).slot
    message = f"operator {op.name} is not bound to its function".encode() + b"\0"
    head = [
        _COMMON,
        f"@leptonc_slot_{slot} = external global ptr",
        f"declare void @leptonc_failed_{slot}(i32)",
        "declare void @TVMFFIErrorSetRaisedFromCStr(ptr, ptr)",
        '@kind = private constant [13 x i8] c"RuntimeError\\00"',
        f'@message = private constant [{len(message)} x i8] c"{_escaped(message)}"',
        *constants,
        f"define i32 @__tvm_ffi_{source.name}(ptr %self, ptr %arguments, i32 %n, ptr %result) {{",
        f"  %in = alloca [{count} x %lepton_tensor]",
        f"  %out = alloca [{len(op.results)} x %lepton_tensor]",
    ]
    places = [
        f"  %{array}.{index} = getelementptr i8, ptr %{array}, i64 {24 * index}"
        for array, number in (("in", count), ("out", len(op.results)))
        for index in range(number)
    ]
    call = _CALL.replace("SLOT", slot).replace("IN,", f"{count},")
    call = call.replace("OUT)", f"{len(op.results)})")
    return "\n".join([*head, *places, *lines, call])


def _operands(op: Op) -> list[Value | None]:
    """The operands in the order of the signature, None for those that are absent."""
    found: list[Value | None] = []
    for operand in op.definition.operands:
        if operand.variadic:
            found += op.operands_called(operand.name)
        else:
            found.append(op.operand(operand.name))
    return found


def _tensors(array: str, items: Sequence[tuple[Value | None, int | None]]) -> list[str]:
    """Fill an array of tensors from the arguments of the kernel."""
    lines: list[str] = []
    for index, (value, argument) in enumerate(items):
        to = f"{array}.{index}"
        if value is None or argument is None:
            lines.append(f"  {_absent(to)}")
            continue
        dtype = ABI_DTYPE[value.type.dtype]
        at = _ARGUMENT * argument
        lines.append(f"  %{to}.given = getelementptr i8, ptr %arguments, i64 {at}")
        lines.append(f"  call void @describe(ptr %{to}.given, ptr %{to}, i32 {dtype})")
    return lines


def _absent(to: str) -> str:
    return f"store %lepton_tensor {{ ptr null, ptr null, i32 -1, i32 0 }}, ptr %{to}"


def _attribute(to: str, name: str, data: AttributeTensor | None, constants: list[str]) -> list[str]:
    """Fill in a tensor with the value of an attribute, which becomes a constant of the kernel."""
    if data is None:
        return [f"  {_absent(to)}"]
    dtype, numbers, rank = data
    kind = _TYPE[dtype]
    spelled = ", ".join(f"{kind} {_number(number, dtype)}" for number in numbers)
    body = f"[{spelled}]" if numbers else "zeroinitializer"
    symbol, shape = f'@"data.{name}"', f'@"shape.{name}"'
    constants.append(f"{symbol} = private constant [{len(numbers)} x {kind}] {body}, align 8")
    constants.append(f"{shape} = private constant [1 x i64] [i64 {len(numbers)}], align 8")
    fields = f"ptr {symbol}, ptr {shape}, i32 {rank}, i32 {ABI_DTYPE[dtype]}"
    return [f"  store %lepton_tensor {{ {fields} }}, ptr %{to}"]


def _number(number: int | float, dtype: DType) -> str:
    if dtype is DType.F64:
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    return str(number)


def _escaped(data: bytes) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}" for byte in data
    )


def _write_object(text: str, target: tvm.target.Target, path: Path) -> None:
    source = path.with_suffix(".ll")
    about = _escaped(str(target).encode())
    flags = f'!llvm.module.flags = !{{!0}}\n!0 = !{{i32 4, !"tvm_target", !"{about}"}}\n'
    source.write_text(f"{text}\n{flags}", encoding="ascii")
    load = tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")
    load(str(source), "ll").write_to_file(str(path), "o")
    source.unlink()
