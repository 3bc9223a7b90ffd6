"""Cellpose 3 for `rivals.py`, which runs this in an environment of its own.

    rival_cellpose.py train FOLDER OUT SECONDS THREADS
    rival_cellpose.py speed IMAGE OUT DIAMETER THREADS

`speed` takes the model that was trained into OUT. Without one the weights are random, and the true
flows of the masks beside the image are put in place of the predicted ones: the network takes as
long, and the search for cells has true ones to find. Cellpose 4 is timed so too, with its smallest
network (`cpdino` with ViT-B), and sees the image at its own size.

The network of Cellpose with random weights, on grey images (the mean of the colours), by the
defaults of its `train_seg`: images resized so that nuclei are 17 px wide. A model of sizes, trained
afterwards (`train_size`), tells how large they are in a new image. Of epochs there are 200 where
the time allows: the learning rate then rises and falls as Cellpose means it to.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from cellpose import dynamics, models, transforms, version
from cellpose import train as recipe

GREY, BATCH, TIMED_STEPS, EPOCHS, SIZED = [0, 0], 8, 8, 200, 64
# Most images are that small; its own 512 px would take four times as long.
CROP_PX = 256
# No image has nuclei that large; a model of sizes that has learnt little may think so.
LARGEST_PX = 300.0
# Side of the corner that is segmented before the first timed run.
WARM_PX = 256
# As in ours: a machine that has become slower may take this much longer than asked.
OVERRUN = 1.1


class TimeIsUpError(Exception):
    """Raised between two steps."""


class Clock:
    """Notes when each step begins, in place of what draws a step's images."""

    def __init__(self, seconds: float = np.inf) -> None:
        self.seconds, self.starts, self.end = seconds, [], 0.0
        self._draw = recipe._get_batch

    def __enter__(self) -> Clock:
        recipe._get_batch = self._tick
        return self

    def __exit__(self, kind, *error: object) -> bool:
        self.end, recipe._get_batch = time.perf_counter(), self._draw
        return kind is TimeIsUpError

    def _tick(self, *given, **named):
        now = time.perf_counter()
        if self.starts and now - self.starts[0] > OVERRUN * self.seconds:
            raise TimeIsUpError
        self.starts.append(now)
        return self._draw(*given, **named)


def new_model() -> models.CellposeModel:
    """Random weights, for nuclei."""
    torch.manual_seed(0)
    model = models.CellposeModel(gpu=False, pretrained_model=False, diam_mean=17.0)
    # MKL-DNN is for prediction alone; Cellpose turns it off in the same way where it trains.
    model.net.mkldnn = False
    return model


def grey(path: Path) -> np.ndarray:
    """(Y, X), the mean of the colours."""
    image = tifffile.imread(path).astype(np.float32)
    return image if image.ndim == 2 else image.mean(-1)


def fit(images: list, flows: list, seconds: float, out: Path) -> tuple[models.CellposeModel, Clock]:
    """Train for some seconds; a first model only tells how many steps that is."""

    def run(model: models.CellposeModel, name: str, epochs: int, steps: int) -> None:
        recipe.train_seg(
            model.net,
            images,
            flows,
            channels=GREY,
            batch_size=BATCH,
            n_epochs=epochs,
            nimg_per_epoch=BATCH * steps,
            save_path=out,
            model_name=name,
        )

    with Clock() as timed:
        run(new_model(), "timed", 1, TIMED_STEPS + 1)
    # Without the first step, which pays for the memory of all others.
    steps = seconds * (TIMED_STEPS - 1) / (timed.starts[-1] - timed.starts[1])
    per_epoch = max(1, round(steps / EPOCHS))
    model = new_model()
    with Clock(seconds) as clock:
        run(model, "model", max(1, round(steps / per_epoch)), per_epoch)
    model.net.save_model(out / "models" / "model")
    return model, clock


def size_model(model: models.CellposeModel, images: list, flows: list, out: Path):
    """A model that tells how large the nuclei of an image are."""
    # It learns from images that are not resized, and is to see new ones in the same way.
    model.diam_labels = model.diam_mean
    sizes = models.SizeModel(model)
    sizes.params = recipe.train_size(
        model.net,
        out / "models" / "model",
        images,
        flows,
        channels=GREY,
        batch_size=BATCH,
        nimg_per_epoch=SIZED,
        bsize=CROP_PX,
    )
    estimate = sizes._size_estimation
    sizes._size_estimation = lambda style: np.minimum(estimate(style), LARGEST_PX)
    return sizes


def train(folder: Path, out: Path, seconds: float) -> None:
    """Learn, learn the sizes, segment the judging images."""
    paths = sorted((folder / "learn" / "images").iterdir())
    images = [grey(path) for path in paths]
    masks = [tifffile.imread(path.parents[1] / "masks" / path.name).astype(int) for path in paths]
    flows = dynamics.labels_to_flows(masks, device=torch.device("cpu"))
    model, clock = fit(images, flows, seconds, out)
    start = time.perf_counter()
    sizes = size_model(model, images, flows, out)
    model.net.mkldnn = model.mkldnn
    apart = time.perf_counter() - start
    start = time.perf_counter()
    for path in sorted((folder / "judge" / "images").iterdir()):
        image = grey(path)
        diameter = sizes.eval(image, channels=GREY)[0]
        labels = model.eval(image, channels=GREY, diameter=diameter)[0]
        tifffile.imwrite(out / "labels" / path.name, labels.astype(np.int32))
    report = {
        "steps": len(clock.starts),
        "train_s": clock.end - clock.starts[0],
        "predict_s": time.perf_counter() - start,
        "apart_s": apart,
        "version": f"cellpose {version}, torch {torch.__version__}",
    }
    (out / "report.json").write_text(json.dumps(report))


def smallest(out: Path) -> models.CellposeModel:
    """The smallest network of Cellpose 4, with random weights."""
    from cellpose.vit import CPDINO

    file = out / "cellpose4.pth"
    torch.manual_seed(0)
    torch.save(CPDINO(model_name="vitb", dtype=torch.bfloat16).state_dict(), file)
    return models.CellposeModel(gpu=False, pretrained_model=str(file))


def find_true(path: Path) -> None:
    """Put the true flows of an image in place of what the network predicts."""
    masks, run = tifffile.imread(path.with_suffix(".masks.tif")).astype(np.int32), models.run_net
    flows = dynamics.labels_to_flows([masks], device=torch.device("cpu"))[0]
    # Cell or not, and flows of length 1; the networks give them about so large.
    truth = np.stack((*(5 * flows[2:4]), np.where(masks > 0, 6.0, -6.0)), -1).astype(np.float32)

    def predicted(*given, **named):
        """Of a corner, or all, of the image."""
        found, styles = run(*given, **named)
        height, width = given[1].shape[1:3]
        part = truth[None, :height, :width]
        if found.shape[1:3] != (height, width):
            part = transforms.resize_image(part, *found.shape[1:3])
        return part, styles

    models.run_net = predicted


def peak_mb() -> float:
    """The peak memory of this process."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def speed(path: Path, out: Path, diameter: float) -> None:
    """Predict whenever a line comes, and say how long it took, how many cells, and the memory."""
    image, trained, settings = grey(path), out / "models" / "model", {}
    if version.startswith("4"):
        model = smallest(out)
    else:
        model = new_model()
        if trained.exists():
            model = models.CellposeModel(gpu=False, pretrained_model=str(trained))
        model.net.mkldnn = model.mkldnn
        settings = {"channels": GREY, "diameter": diameter}
    if not trained.exists():
        find_true(path)
    model.eval(image[:WARM_PX, :WARM_PX], **settings)
    for _ in sys.stdin:
        start = time.perf_counter()
        labels = model.eval(image, **settings)[0]
        print("=", time.perf_counter() - start, labels.max(), peak_mb(), flush=True)


if __name__ == "__main__":
    what, source, out, number, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    if what == "train":
        train(Path(source), Path(out), float(number))
    else:
        speed(Path(source), Path(out), float(number))
