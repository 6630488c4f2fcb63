"""What is installed is what is in the repository, however it is installed."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = ("ir", "passes", "backends", "tools")


def run(
    command: list[str], *, folder: Path = ROOT, environment: dict[str, str] | None = None
) -> str:
    """What the command prints; a failed one fails the test with its own words."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def packaged_files() -> set[str]:
    """What git tracks of the package, as paths below the import root."""
    listed = run(["git", "ls-files", "--", "compiler/leptonc", *LINKS]).split("\n")
    wanted: set[str] = set()
    for path in listed:
        if not path.endswith((".py", ".pyi", "py.typed", ".h", "passes/examples.json")):
            continue
        inside = path.removeprefix("compiler/")
        wanted.add(inside if inside != path else f"leptonc/{path}")
    return wanted


def module_names() -> list[str]:
    """The dotted names of every tracked module."""
    names = (path.removesuffix(".py") for path in packaged_files() if path.endswith(".py"))
    return sorted(name.removesuffix("/__init__").replace("/", ".") for name in names)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, so that builds leave nothing in the repository."""
    target = tmp_path_factory.mktemp("checkout") / "leptonc"
    listed = run(["git", "ls-files", "-z"]).split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if name.startswith("tests/data/") or not os.path.lexists(source):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)
    return target


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or an sdist without isolation, so that nothing is fetched."""
    options = [f"--{kind}", "--no-isolation", "--outdir", str(target), str(source)]
    run([sys.executable, "-m", "build", *options])
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> set[str]:
    """The files of a wheel but for its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_exactly_the_tracked_files(checkout: Path, tmp_path: Path) -> None:
    wheel = build("wheel", checkout, tmp_path)
    assert contents(wheel) == packaged_files()


def test_a_wheel_built_from_the_sdist_is_the_same(checkout: Path, tmp_path: Path) -> None:
    sdist = build("sdist", checkout, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    wheel = build("wheel", source, tmp_path / "wheel")
    assert contents(wheel) == packaged_files()


def test_an_editable_install_finds_the_packages_behind_the_links(
    checkout: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", system_site_packages=False, with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    build_tools = os.pathsep.join(path for path in sys.path if "site-packages" in path)
    run(
        [*pip, "--no-deps", "--no-build-isolation", "--editable", str(checkout)],
        environment={"PYTHONPATH": build_tools},
    )
    where = "import importlib.util as u\n" + "\n".join(
        f"print(u.find_spec('leptonc.{name}').origin)" for name in LINKS
    )
    found = run([str(python), "-c", where], folder=tmp_path).split()
    assert [Path(path).resolve() for path in found] == [
        (checkout / name / "__init__.py").resolve() for name in LINKS
    ]
    assert (tmp_path / "env" / "bin" / "leptonc").exists()
    assert (tmp_path / "env" / "bin" / "leptonc-opt").exists()


@pytest.mark.parametrize("name", module_names())
def test_every_module_imports(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("name", LINKS)
def test_the_links_are_links_in_git(name: str) -> None:
    listed = run(["git", "ls-files", "--stage", f"compiler/leptonc/{name}"])
    assert listed.startswith("120000 ")
    assert (ROOT / "compiler" / "leptonc" / name).readlink() == Path("../..") / name
