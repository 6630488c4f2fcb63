"""The package that the page on operators describes, written, compiled and installed in a folder."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from leptonc.extensions import GROUP, include_folder

PAGE = Path(__file__).parents[2] / "compiler" / "operators.md"
_FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of_page() -> dict[str, str]:
    """The files that the page shows, by name."""
    return dict(_FILE.findall(PAGE.read_text(encoding="utf-8")))


def compiler() -> str | None:
    """A C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_c(source: str, library: Path) -> Path:
    """A shared library made of the text of one C file."""
    path = library.with_suffix(".c")
    path.write_text(source, encoding="utf-8")
    found = compiler()
    assert found is not None
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror", f"-I{include_folder()}"]
    subprocess.run([found, *flags, str(path), "-o", str(library)], check=True)
    return library


def install(folder: Path) -> None:
    """Put the package of the page into a folder, as an installer would."""
    files = files_of_page()
    for name, text in files.items():
        if name.endswith(".py"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    compile_c(files["running_max.c"], folder / "lepton_example" / "running_max.so")
    about = folder / "lepton_example-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lepton-example\nVersion: 1.0\n")
    (point,) = re.findall(r'^(\w+ = "[\w:]+")$', files["pyproject.toml"].split(GROUP)[1], re.M)
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{point.replace(chr(34), '')}\n")
