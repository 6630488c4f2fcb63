# pyright: standard
"""Runs kernels for 64-bit Arm on an emulated processor."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, tirx
from unicorn import UC_ARCH_ARM64, UC_HOOK_CODE, UC_MODE_ARM
from unicorn import arm64_const as register
from unicorn.unicorn import Uc

from leptonc.backends.cpu.target import CpuTarget, tvm_target
from leptonc.backends.tvm.pipeline import PIPELINE

Array = NDArray[Any]
CODE, OUTSIDE, STACK, HEAP, DATA = (each << 26 for each in range(1, 6))
STACK_BYTES, HEAP_BYTES, PAGE = 8 << 20, 8 << 20, 4096
ENVIRONMENT = STACK + STACK_BYTES - PAGE
PATIENCE = 30_000_000  # microseconds
EM_AARCH64, SHT_SYMTAB, SHT_NOBITS, SHT_RELA, SHF_ALLOC = 183, 2, 8, 4, 2
RUNTIME = tuple(
    f"__TVMBackend{name}" for name in ("AllocWorkspace", "FreeWorkspace", "ParallelLaunch")
)
# The tensor that is no object of its own, and its device: tvm/ffi/c_api.h, dlpack.h.
TENSOR, DEVICE = 7, 1
KINDS = {"f": 2, "i": 0, "u": 1}


@dataclass(frozen=True)
class Section:
    """A section of an object file."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class ArmObject:
    """A relocatable object: "ELF for the Arm 64-bit Architecture", in memory from CODE on.

    Symbols that it does not define lie from OUTSIDE on, a word each.
    """

    def __init__(self, data: bytes) -> None:
        assert data[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", data, 18)[0] == EM_AARCH64
        self.data, self.sections = data, list(_sections(data))
        self.places: dict[int, int] = {}
        end = CODE
        for index, section in enumerate(self.sections):
            if section.flags & SHF_ALLOC and section.name != ".eh_frame":
                end = -(-end // max(section.align, 1)) * max(section.align, 1)
                self.places[index], end = end, end + section.size
        self.image = bytearray(end - CODE)
        for index, place in self.places.items():
            section = self.sections[index]
            if section.kind != SHT_NOBITS:
                bits = data[section.offset : section.offset + section.size]
                self.image[place - CODE : place - CODE + section.size] = bits
        self.outside: list[str] = []
        self.table: dict[int, int] = {}
        self.symbols = self._symbols()
        for name, place in self.symbols:
            if name in RUNTIME:  # a variable for the address of the function
                struct.pack_into("<Q", self.image, place - CODE, self._word(name.lstrip("_")))
        for section in self.sections:
            if section.kind == SHT_RELA and section.info in self.places:
                self._relocate(section)

    def _symbols(self) -> list[tuple[str, int]]:
        table = next(section for section in self.sections if section.kind == SHT_SYMTAB)
        names = self.sections[table.link].offset
        symbols: list[tuple[str, int]] = []
        for at in range(table.offset, table.offset + table.size, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", self.data, at)
            text = _text(self.data, names + name)
            if section:
                value += self.places.get(section, 0)
            elif text:
                value = self._word(text)
            symbols.append((text, value))
        return symbols

    def _word(self, name: str) -> int:
        self.outside.append(name)
        return OUTSIDE + 4 * len(self.outside) - 4

    def _relocate(self, section: Section) -> None:
        for at in range(section.offset, section.offset + section.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", self.data, at)
            place = self.places[section.info] + offset
            self._patch(place, info & 0xFFFFFFFF, self.symbols[info >> 32][1] + addend)

    def _patch(self, place: int, kind: int, value: int) -> None:
        """Writes an address where it belongs, by the table of static relocations in that text."""
        at = place - CODE
        word = struct.unpack_from("<I", self.image, at)[0]
        if kind in (311, 312):  # ADR_GOT_PAGE, LD64_GOT_LO12_NC: as the two of the entry's address
            value, kind = self._entry(value), {311: 275, 312: 286}[kind]
        shifts = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # bytes, halves ... 16 bytes
        if kind == 257:  # ABS64
            struct.pack_into("<Q", self.image, at, value)
            return
        if kind == 275:  # ADR_PREL_PG_HI21
            pages = value // PAGE - place // PAGE
            word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        elif kind in shifts:  # ADD_ABS_LO12_NC, LDST*_ABS_LO12_NC
            word |= (value % PAGE >> shifts[kind]) << 10
        elif kind in (282, 283):  # JUMP26, CALL26
            assert abs(value - place) < 1 << 27
            word |= (value - place >> 2) & 0x3FFFFFF
        else:
            raise AssertionError(f"relocation {kind} is not known")
        struct.pack_into("<I", self.image, at, word)

    def _entry(self, value: int) -> int:
        """Where the table of addresses has this one."""
        if value not in self.table:
            self.image += bytes(-len(self.image) % 8)
            self.table[value] = CODE + len(self.image)
            self.image += struct.pack("<Q", value)
        return self.table[value]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _sections(data: bytes) -> Iterator[Section]:
    start = struct.unpack_from("<Q", data, 40)[0]
    size, count, names = struct.unpack_from("<HHH", data, 58)
    fields = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * each) for each in range(count)]
    for name, kind, flags, _, offset, length, link, info, align, _ in fields:
        text = _text(data, fields[names][4] + name)
        yield Section(text, kind, flags, offset, length, link, info, align)


class ArmKernel:
    """A compiled function that an emulated processor calls."""

    def __init__(self, module: IRModule, cpu: CpuTarget) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.o"
            tirx.build(module, tvm_target(cpu), PIPELINE).write_to_file(str(path))
            self.object = ArmObject(path.read_bytes())
        self.entry = dict(self.object.symbols)["__tvm_ffi_main"]

    def __call__(self, *arrays: Array) -> None:
        """Call it; what it writes is in the arrays after."""
        machine = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        _map(machine, CODE, bytes(self.object.image))
        _map(machine, OUTSIDE, bytes(4 * len(self.object.outside) + 4))
        machine.mem_map(STACK, STACK_BYTES)
        machine.mem_map(HEAP, HEAP_BYTES)
        self._free = HEAP
        places, memory, headers = self._lay_out(arrays)
        _map(machine, DATA, memory)
        end = OUTSIDE + 4 * len(self.object.outside)
        machine.hook_add(UC_HOOK_CODE, self._outside, begin=OUTSIDE, end=end - 1)
        for number, value in enumerate((0, headers, len(arrays), headers)):
            machine.reg_write(register.UC_ARM64_REG_X0 + number, value)
        machine.reg_write(register.UC_ARM64_REG_SP, ENVIRONMENT)
        machine.reg_write(register.UC_ARM64_REG_LR, end)
        machine.reg_write(register.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # vectors may be used
        machine.emu_start(self.entry, end, timeout=PATIENCE)
        assert machine.reg_read(register.UC_ARM64_REG_W0) == 0
        for array, place in zip(arrays, places, strict=True):
            data = bytes(machine.mem_read(place, array.nbytes))
            array[...] = np.frombuffer(data, array.dtype).reshape(array.shape)

    def _outside(self, machine: Uc, address: int, size: int, data: object) -> None:
        """Does what a function that the kernel calls would do."""
        name = self.object.outside[(address - OUTSIDE) // 4]
        first, second, third = (machine.reg_read(register.UC_ARM64_REG_X0 + i) for i in range(3))
        result, to = first, machine.reg_read(register.UC_ARM64_REG_LR)
        if name == "TVMBackendAllocWorkspace":
            result, self._free = self._free, self._free + -(-third // 64) * 64
            assert self._free <= HEAP + HEAP_BYTES
        elif name == "TVMBackendFreeWorkspace":
            result = 0
        elif name == "TVMBackendParallelLaunch":  # (task, what it takes) as the only thread of one
            machine.mem_write(ENVIRONMENT, struct.pack("<Qi", 0, 1))
            machine.reg_write(register.UC_ARM64_REG_X1, ENVIRONMENT)
            machine.reg_write(register.UC_ARM64_REG_X2, second)
            result, to = 0, first
        elif name == "memset":
            machine.mem_write(first, bytes([second & 255]) * third)
        elif name == "memcpy":
            machine.mem_write(first, bytes(machine.mem_read(second, third)))
        else:
            raise AssertionError(f"the kernel called {name}")
        machine.reg_write(register.UC_ARM64_REG_X0, result)
        machine.reg_write(register.UC_ARM64_REG_PC, to)

    def _lay_out(self, arrays: Sequence[Array]) -> tuple[list[int], bytes, int]:
        """Where each array lies, all memory with them, and where the arguments begin."""
        memory, places = bytearray(), list[int]()
        for array in arrays:
            start = array.ctypes.data % 64  # aligned as it is here
            memory += bytes(-len(memory) % 64 + start)
            places.append(DATA + len(memory))
            memory += array.tobytes()
        headers: list[int] = []
        for array, place in zip(arrays, places, strict=True):
            memory += bytes(-len(memory) % 8)
            shape = DATA + len(memory)
            memory += struct.pack(f"<{array.ndim}q", *array.shape)
            headers.append(DATA + len(memory))
            kind, bits = KINDS[array.dtype.kind], 8 * array.itemsize
            memory += struct.pack(
                "<QiiiBBHQQQ", place, DEVICE, 0, array.ndim, kind, bits, 1, shape, 0, 0
            )
        arguments = DATA + len(memory)
        for header in headers:
            memory += struct.pack("<iiQ", TENSOR, 0, header)
        return places, bytes(memory + bytes(16)), arguments


def _map(machine: Uc, place: int, data: bytes) -> None:
    machine.mem_map(place, -(-len(data) // PAGE) * PAGE)
    machine.mem_write(place, data)
