# pyright: standard
"""What leptonc finds out about a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tvm import te

from leptonc.backends.cpu.target import (
    AVX2,
    AVX512,
    NAMES,
    NEON,
    available_threads,
    by_name,
    detect,
    missing_features,
    multiplies_bf16,
    required_features,
    spelled_out,
    tvm_target,
)
from leptonc.ir.diagnostics import LeptonError
from tests.backends.cpu.kernels import assembly


def machine(root: Path, flags: tuple[str, ...]) -> Path:
    """The system files of a machine with these flags and a second-level cache of 2 MB."""
    cache = root / "sys/devices/system/cpu/cpu0/cache/index2"
    cache.mkdir(parents=True)
    for name, text in (("level", "2"), ("type", "Unified"), ("size", "2048K")):
        (cache / name).write_text(text + "\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {' '.join(flags)}\n\n")
    return root


@pytest.mark.parametrize(
    ("flags", "name", "lanes", "registers"),
    [
        ((*AVX512, "avx512_vnni", "avx512_bf16", "amx_bf16"), "avx512-bf16", 16, 32),
        ((*AVX512, "avx512_vnni", "avx_vnni"), "avx512-vnni", 16, 32),
        (AVX512, "avx512", 16, 32),
        ((*AVX2, "avx_vnni"), "avx2-vnni", 8, 16),
        (AVX2, "avx2", 8, 16),
        (tuple(flag for flag in AVX2 if flag != "fma"), "sse", 4, 16),
        ((*NEON, "asimdhp", "crc32"), "neon", 4, 32),
        ((), "generic", 4, 16),
    ],
)
def test_level_follows_the_flags(
    tmp_path: Path, flags: tuple[str, ...], name: str, lanes: int, registers: int
) -> None:
    cpu = detect(machine(tmp_path, flags))
    assert (cpu.name, cpu.lanes, cpu.registers) == (name, lanes, registers)
    assert cpu.l2_bytes == 2 * 1024 * 1024


def test_missing_features_are_named(tmp_path: Path) -> None:
    root = machine(tmp_path, AVX2)
    assert missing_features(by_name("avx2"), root) == ()
    assert missing_features(by_name("avx512"), root) == AVX512[len(AVX2) :]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LeptonError, match="unknown cpu target 'avx1024'") as caught:
        by_name("avx1024")
    assert all(name in caught.value.notes[0] for name in NAMES)


@pytest.mark.parametrize(
    ("group", "files", "most"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("0::/\n", {"cpu.max": "max 100000"}, 10**6),
    ],
)
def test_quota_caps_the_threads(
    tmp_path: Path, group: str, files: dict[str, str], most: int
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_threads(tmp_path) == min(most, available_threads(Path("/")))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "generic"])
def test_llvm_knows_the_level_and_its_features(name: str) -> None:
    from tvm.target import codegen

    cpu = by_name(name)
    target = tvm_target(cpu)
    assert codegen.llvm_is_valid_cpu(cpu.mcpu, f"{cpu.machine}-unknown-linux-gnu")
    spelling = {
        "abm": "lzcnt",
        "pni": "sse3",
        "sse4_1": "sse4.1",
        "sse4_2": "sse4.2",
        "bmi1": "bmi",
        "avx512_vnni": "avx512vnni",
        "avx_vnni": "avxvnni",
        "avx512_bf16": "avx512bf16",
        "fp": "fp-armv8",
        "asimd": "neon",
    }
    features = [spelling.get(flag, flag) for flag in required_features(cpu)]
    assert codegen.llvm_cpu_has_features(features, target)
    assert not codegen.llvm_cpu_has_features("amx-tile", target)
    if "avx512f" not in cpu.features:
        assert not codegen.llvm_cpu_has_features("avx512f", target)


def test_lookups_are_no_gathers() -> None:
    table: Any = te.placeholder((256,), "float32", name="table")
    index: Any = te.placeholder((4096,), "int32", name="index")
    found: Any = te.compute((4096,), lambda i: table[index[i]])
    function = te.create_prim_func([table, index, found])
    assert "gather" not in assembly(function, by_name("avx512"))


def test_what_is_spelled_out_runs_where_there_is_avx2(tmp_path: Path) -> None:
    cpu = spelled_out(by_name("avx512-bf16"))
    assert (cpu.lanes, cpu.registers, multiplies_bf16(cpu)) == (16, 32, True)
    assert missing_features(cpu, machine(tmp_path, AVX2)) == ()
    assert "avx512" not in str(tvm_target(cpu))
