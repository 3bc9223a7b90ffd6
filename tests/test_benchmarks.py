"""The benchmarks can be started: a change of the package that they have not followed shows here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    # The scripts for other environments import what is not here.
    if path.stem != "__init__" and not path.stem.startswith("rival_")
)


@pytest.mark.slow
def test_each_benchmark_can_be_imported_without_a_folder_of_images():
    code = f"import importlib\nfor name in {MODULES}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_benchmark_says_how_it_is_called():
    commands = [name for name in MODULES if "def main(" in source(name)]
    assert len(commands) >= 11
    for name in commands:
        assert f"python -m {name.removesuffix('.__main__')}" in source(name), name


def source(name: str) -> str:
    return (ROOT / Path(*name.split("."))).with_suffix(".py").read_text(encoding="utf-8")
