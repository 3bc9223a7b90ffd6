"""Other tools in environments of their own, which are made where they are not there."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

# Versions that are known to work together.
PINS = {
    "stardist": (
        "stardist==0.9.2",
        "csbdeep==0.8.2",
        "tensorflow-cpu==2.15.1",
        "numpy==1.26.4",
        "scikit-image==0.26.0",
        "scipy==1.17.1",
        "numba==0.68.1",
        "tifffile==2026.3.3",
    ),
    "cellpose": (
        "cellpose==3.1.1.3",
        "torch==2.13.0",
        "numpy==2.0.2",
        "scipy==1.17.1",
        "numba==0.68.1",
        "opencv-python-headless==4.12.0.88",
        "tifffile==2026.3.3",
    ),
    "cellpose4": ("cellpose==4.2.1.1", "torch==2.13.0"),
}


def environment(tool: str, work: Path, python: str) -> Path:
    """The interpreter of an environment that holds a rival; made where it is not there."""
    folder = work / f"env-{tool}"
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done, pins = folder / "installed.txt", "\n".join(PINS[tool])
    if not done.exists() or done.read_text() != pins:
        print(f"installing {tool}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "-q", *PINS[tool]], check=True)
        done.write_text(pins)
    return interpreter


def rival(tool: str, options: argparse.Namespace, *words: object) -> list[str]:
    """The call of a rival's script."""
    interpreter = environment(tool, options.work, options.python)
    script = Path(__file__).parent / f"rival_{tool.rstrip('4')}.py"
    # -I: nothing of this environment is imported there.
    return [str(word) for word in (interpreter, "-I", script, *words, options.threads)]


def environ(options: argparse.Namespace) -> dict[str, str]:
    """Threads of the libraries that take them from the environment; no models from elsewhere."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    threads = dict.fromkeys(names, str(options.threads))
    apart = {"CELLPOSE_LOCAL_MODELS_PATH": str(options.work / "cellpose")}
    return {**os.environ, **threads, **apart}
