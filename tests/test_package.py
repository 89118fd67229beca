"""The wheel: nothing that the packages read is left out of it."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rlvr", "analysis")


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"  # the build leaves folders behind
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    files = {path.relative_to(source).as_posix() for name in PACKAGES for path in (source / name).rglob("*.*")}
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "."]
    subprocess.run([*build, source], cwd=tmp_path, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in ZipFile(wheel).namelist() if name.startswith(PACKAGES)}
    assert inside == {name for name in files if (source / name).is_file()}
