"""StarDist for `rivals.py`, which runs this in an environment of its own.

    rival_stardist.py train FOLDER OUT SECONDS THREADS
    rival_stardist.py speed IMAGE OUT DIAMETER THREADS

`speed` takes the model that was trained into OUT. Without one the weights are random, and the true
distances of the masks beside the image are put in place of the predicted ones: the network takes as
long, and the search for cells has true ones to find.

The recipe is that of StarDist's own example for 2D (examples/2D/2_training.ipynb): 32 rays on a
grid of (2, 2), patches of 256 px, flips, rotations and intensity; 15 % of the images are for
validation, which keeps the best weights, and for the thresholds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tifffile
from csbdeep.utils import normalize
from stardist import __version__, edt_prob, fill_label_holes, star_dist
from stardist.models import Config2D, StarDist2D


class Clock(tf.keras.callbacks.Callback):
    """Ends the training after some seconds, counted from the first step's beginning."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.steps, self.start, self.end = seconds, 0, 0.0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.start = self.start or time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.end = time.perf_counter()
        if self.end - self.start >= self.seconds:
            self.model.stop_training = True


RNG = np.random.default_rng(0)


def augment(x, y):
    """The example's augmenter: flips and quarter turns, intensity, noise."""
    axes = tuple(RNG.permutation(2))
    x, y = x.transpose((*axes, *range(2, x.ndim))), y.transpose(axes)
    for axis in range(2):
        if RNG.random() > 0.5:
            x, y = np.flip(x, axis), np.flip(y, axis)
    x = x * RNG.uniform(0.6, 2) + RNG.uniform(-0.2, 0.2)
    return x + 0.02 * RNG.uniform() * RNG.normal(0, 1, x.shape), y


def prepared(image: np.ndarray, channels: int) -> np.ndarray:
    """(Y, X, C) of one or three channels, each normalised as in the example."""
    grey = image if image.ndim == 2 else image.mean(-1)
    if channels == 3:
        stack = image if image.ndim == 3 else np.stack([image] * 3, -1)
    else:
        stack = grey[..., None]
    return normalize(stack, 1, 99.8, axis=(0, 1))


def segment(model: StarDist2D, image: np.ndarray) -> np.ndarray:
    """Labels of an image."""
    return model.predict_instances(prepared(image, model.config.n_channel_in))[0]


def train(folder: Path, out: Path, seconds: float) -> None:
    """Learn, choose thresholds, segment the judging images."""
    paths = sorted((folder / "learn" / "images").iterdir())
    raw = [tifffile.imread(path) for path in paths]
    channels = 3 if any(image.ndim == 3 and np.ptp(image, axis=-1).any() for image in raw) else 1
    images = [prepared(image, channels) for image in raw]
    masks = [
        fill_label_holes(tifffile.imread(path.parents[1] / "masks" / path.name)) for path in paths
    ]
    order = np.random.RandomState(42).permutation(len(images))
    n_val = max(1, round(0.15 * len(images)))
    (val_x, val_y), (x, y) = (
        ([images[i] for i in part], [masks[i] for i in part])
        for part in (order[:n_val], order[n_val:])
    )
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=channels,
        use_gpu=False,
        train_patch_size=(256, 256),
        train_tensorboard=False,
    )
    model, clock = StarDist2D(config, name="model", basedir=str(out)), Clock(seconds)
    model.prepare_for_training()
    model.callbacks.append(clock)
    model.train(x, y, validation_data=(val_x, val_y), augmenter=augment, seed=0, epochs=10_000)
    start = time.perf_counter()
    thresholds = model.optimize_thresholds(val_x, val_y)
    tuned = time.perf_counter() - start
    start = time.perf_counter()
    for path in sorted((folder / "judge" / "images").iterdir()):
        labels = segment(model, tifffile.imread(path))
        tifffile.imwrite(out / "labels" / path.name, labels.astype(np.int32))
    report = {
        "steps": clock.steps,
        "train_s": clock.end - clock.start,
        "predict_s": time.perf_counter() - start,
        "apart_s": tuned,
        "thresholds": {name: float(value) for name, value in thresholds.items()},
        "version": f"stardist {__version__}, tensorflow {tf.__version__}",
    }
    (out / "report.json").write_text(json.dumps(report))


def untrained(path: Path, out: Path) -> StarDist2D:
    """A model of random weights that finds the true nuclei of an image."""
    config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1, use_gpu=False)
    model = StarDist2D(config, name="untrained", basedir=str(out))
    masks = tifffile.imread(path.with_suffix(".masks.tif")).astype(np.int32)
    truth = edt_prob(masks)[::2, ::2, None], star_dist(masks, 32, grid=(2, 2))
    predict = model.keras_model.predict

    def predicted(image, **options):
        """Of a corner, or all, of the image."""
        parts = predict(image, **options)
        return [
            true[None, : part.shape[1], : part.shape[2]]
            for true, part in zip(truth, parts, strict=True)
        ]

    model.keras_model.predict = predicted
    return model


def peak_mb() -> float:
    """The peak memory of this process."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def speed(path: Path, out: Path) -> None:
    """Predict whenever a line comes, and say how long it took, how many cells, and the memory."""
    image = tifffile.imread(path)
    is_trained = (out / "model").is_dir()
    model = StarDist2D(None, name="model", basedir=str(out)) if is_trained else untrained(path, out)
    segment(model, image[:512, :512])
    for _ in sys.stdin:
        start = time.perf_counter()
        labels = segment(model, image)
        print("=", time.perf_counter() - start, labels.max(), peak_mb(), flush=True)


if __name__ == "__main__":
    what, source, out, number, threads = sys.argv[1:]
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.threading.set_inter_op_parallelism_threads(int(threads))
    if what == "train":
        train(Path(source), Path(out), float(number))
    else:
        speed(Path(source), Path(out))
