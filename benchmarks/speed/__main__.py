"""One table of all that people wait for, beside other tools and what the machine allows.

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.speed [--runs 5] [--json FILE]
        [--only PART ...] [--without PART ...]
        [--largest]             also images of 400 megapixels, some ten minutes
        [--work DIR]            where other tools are installed (several GB)

A row has our figure, what it is compared with, its figure, and their ratio: how many times faster
ours is, or its share of a ceiling. What is compared runs in turn, so that a busy machine slows all
of it; figures are medians. MONAI has to be there (pip install --no-deps monai); StarDist and
Cellpose are installed into environments of their own (Python 3.9 to 3.11, see --python). What
cannot be measured says why, and the others go on. With --json, each part is kept in a file when it
is done, and what the file holds already is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.speed import costs, large, networks, others, training
from benchmarks.speed.table import HEAD, MISSING, Row
from napari_unet.models.device import choose
from napari_unet.models.store import SHIPPED

Part = Callable[[argparse.Namespace], Iterator[Row]]
PARTS: dict[str, Part] = {
    "rivals": lambda given: others.end_to_end(given, 2048, {"stardist": 1.5, "cellpose": 20.0}),
    "newest": lambda given: others.end_to_end(given, 512, {"cellpose4": None}),
    "paper": lambda given: networks.paper_network(given.runs),
    "network": lambda given: networks.nuclei_network(given.runs),
    "formats": lambda given: networks.formats(),
    "step": lambda given: training.step(given.runs),
    "minute": lambda given: training.minute(),
    "click": lambda given: costs.click(given.runs),
    "size": lambda given: costs.size(given.runs),
    "collecting": lambda given: costs.collecting(given.runs),
    "measuring": lambda given: costs.measuring(given.runs),
    "view": lambda given: costs.lazy_view(),
    "weights": lambda given: costs.weights(given.runs),
    "large": lambda given: large.in_memory((1000, 4000, 10_000)),
    "zarr": lambda given: large.zarr_to_zarr(
        (1000, 4000, 10_000, *([20_000] if given.largest else []))
    ),
    "cluster": lambda given: large.cluster((2, 4)),
}


def measured(name: str, given: argparse.Namespace) -> list[Row]:
    """The rows of a part; those that were not reached become one that says why."""
    rows = []
    try:
        rows.extend(PARTS[name](given))
    except subprocess.CalledProcessError as error:
        rows.append(Row(name, None, f"{MISSING}: a process ended with {error.returncode}"))
    except Exception as error:
        rows.append(Row(name, None, f"{MISSING}: {error}"))
    return rows


def main() -> None:
    """Measure what was asked for, a table as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--without", nargs="+", choices=PARTS, default=[])
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / "work")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    given = parser.parse_args()
    given.work = given.work.resolve()
    torch.set_num_threads(given.threads)
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    weights = hashlib.sha256((SHIPPED / "nuclei.safetensors").read_bytes()).hexdigest()[:12]
    print(f"{choose().describe()}, torch {torch.__version__}, nuclei {weights}")
    print(HEAD, flush=True)
    for name in given.only:
        if name in given.without:
            continue
        if name not in kept:
            rows = measured(name, given)
            whole = not any(MISSING in row.beside for row in rows)
            if given.json and whole:
                kept[name] = [asdict(row) for row in rows]
                given.json.write_text(json.dumps(kept, indent=1))
        else:
            rows = [Row(**row) for row in kept[name]]
        print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
