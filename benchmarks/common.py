"""What several benchmarks share: their images, processes of their own, the memory of a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.io.images import read_image

# The folder that holds `benchmarks`: a process that starts here can import it.
ROOT = Path(__file__).parents[1]


def data_folder() -> Path:
    """The folder of the images, which NAPARI_UNET_DATA names; without it the program ends."""
    if "NAPARI_UNET_DATA" not in os.environ:
        sys.exit("NAPARI_UNET_DATA is not set; set it to the folder of the images")
    return Path(os.environ["NAPARI_UNET_DATA"])


def run_python(code: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """Run code in a fresh interpreter, and return what it prints last, which has to be JSON."""
    command = [sys.executable, "-c", code, *arguments]
    said = subprocess.check_output(command, cwd=ROOT, env=env, text=True)
    return json.loads(said.splitlines()[-1])


def mosaic(size_px: int, kind: str) -> NDArray[Any]:
    """A square of small images (RGB as grey), or of their masks, of dsb2018."""
    folder = data_folder() / "dsb2018"
    rng, n = np.random.default_rng(0), size_px // 256
    names = sorted(path.stem for path in (folder / "masks").iterdir())
    rows: list[list[NDArray[Any]]] = [[] for _ in range(n)]
    count = 0
    while sum(map(len, rows)) < n * n:
        stem = names[rng.integers(len(names))]
        mask = read_image(next((folder / "masks").glob(f"{stem}.*"))).data
        if mask.shape != (256, 256) or not 20 < len(np.unique(mask)) < 60:
            continue
        row = rows[sum(map(len, rows)) // n]
        if kind == "masks":
            row.append(np.where(mask > 0, mask.astype(np.int32) + count, 0))
            count += int(mask.max())
        else:
            image = read_image(next((folder / "images").glob(f"{stem}.*"))).data
            row.append(image if image.ndim == 2 else image[..., :3].mean(-1).astype(np.uint8))
    return np.vstack([np.hstack(row) for row in rows])


def status(key: str) -> float:
    """A figure of /proc/self/status in MB, such as VmHWM: the peak memory. Linux only."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024
