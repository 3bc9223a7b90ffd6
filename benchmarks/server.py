"""How much does a server do for four people at once, compared with one?

    python -m benchmarks.server [--jobs 24] [--size 1024] [--rounds 3]

A server is started on this computer. In each round, one client has so many images segmented one
after the other, then four clients at once have a quarter of them each. Printed: images in a minute
of both, their ratio, and when each of the four had ended, as a share of the time of the last one.
With one device, a ratio near 1 or above says that taking turns costs nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from napari_unet.cli import main as command
from napari_unet.config import PredictConfig
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

PEOPLE = ("anna", "ben", "carl", "dora")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=24, help="a multiple of 4")
    parser.add_argument("--size", type=int, default=1024, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 255, (options.size,) * 2, np.uint8)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(_serving(folder))
        clients = [_client(folder, person, stack) for person in PEOPLE]
        _time_each(clients, image, 1)  # the worker loads torch and the model
        ratios = []
        for _ in range(options.rounds):
            (one,) = _time_each(clients[:1], image, options.jobs)
            four = _time_each(clients, image, options.jobs // 4)
            ratios.append(one / max(four))
            found = {"one_per_min": round(60 * options.jobs / one, 1),
                     "four_per_min": round(60 * options.jobs / max(four), 1),
                     "ratio": round(ratios[-1], 3),
                     "ended_at": [round(each / max(four), 2) for each in four]}  # fmt: skip
            print(json.dumps(found), flush=True)
        print(json.dumps({"ratio": round(median(ratios), 3)}))


@contextmanager
def _serving(folder: Path) -> Iterator[None]:
    """Run `napari-unet serve`."""
    program = [sys.executable, "-m", "napari_unet.cli", "serve", "--port", "0", "--as-root"]
    options = ["--folder", str(folder / "server"), "--credentials", str(folder / "me.json")]
    with subprocess.Popen([*program, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "serving at" not in (line := process.stdout.readline()):
            if not line:
                sys.exit("the server did not start")
        # What it prints has to go somewhere.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield
        process.terminate()


def _client(folder: Path, person: str, stack: ExitStack) -> SegmentationService:
    file = folder / f"{person}.json"
    command(["serve", "add-user", person, "--folder", str(folder / "server"), "-o", str(file)])
    service = SegmentationService(ModelStore(folder / person / "models"))
    service.servers.use(file)
    return stack.enter_context(closing(service))


def _time_each(clients: list[SegmentationService], image: np.ndarray, jobs: int) -> list[float]:
    """Return the seconds after which each client, all at once, had so many images segmented."""
    began, ends = time.perf_counter(), [0.0] * len(clients)

    def work(number: int) -> None:
        for _ in range(jobs):
            config = PredictConfig(diameter_px=None, channel=None)
            clients[number].segment(image, "YX", "nuclei", config).wait()
        ends[number] = time.perf_counter() - began

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


if __name__ == "__main__":
    main()
