"""How fast is each stage, beside what the machine allows and what others do?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.speed [--runs 5] [--json FILE]
        [--monai]    also MONAI's sliding_window_inference (pip install --no-deps monai)
        [--large]    also the peak memory of a 10,000 x 10,000 image, some minutes

What is compared runs in turn, in one process, so that a busy machine slows all of it; a figure is
the median. The ceiling is the rate of one 3 x 3 convolution, 64 to 64 channels, on 512 x 512; on a
GPU that of a product of matrices, 8192 a side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from benchmarks.common import data_folder, mosaic, run_python, status
from napari_unet.config import PredictConfig, train_config
from napari_unet.core.cells.instances import label_instances, separate_touching
from napari_unet.core.network.unet import UNet, halo_px
from napari_unet.core.network.weight_map import border_weights
from napari_unet.engine.predict import Predictor, foreground_scores
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.engine.trainer import Trainer
from napari_unet.io.images import read_image
from napari_unet.learning.training import NewModel, new_model
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import Compute, choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import SHIPPED

Work = Callable[[], object]


def medians(runs: int, **works: Work) -> dict[str, float]:
    """Median seconds of each work, all of them in turn, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for run in range(runs + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            wait()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def ceiling(compute: Compute) -> tuple[Work, float]:
    """The ceiling's work, and its operations: a convolution, on a GPU a product of matrices."""
    where = {"device": compute.torch_device, "dtype": compute.torch_dtype}
    if compute.device == "cuda":
        matrix = torch.randn(8192, 8192, **where)
        return lambda: matrix @ matrix, 2.0 * 8192**3
    layer = nn.Conv2d(64, 64, 3).to(**where, memory_format=torch.channels_last)
    image = torch.randn(1, 64, 514, 514).to(**where, memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> Any:
        return layer(image)

    return work, 2.0 * 64 * 64 * 9 * 512**2


def operations(network: UNet, size_px: int) -> float:
    """Floating-point operations of the convolutions of one tile."""
    total = 0.0

    def count(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        taps = layer.kernel_size[0] ** 2 * layer.in_channels
        if isinstance(layer, nn.ConvTranspose2d):
            taps = layer.in_channels
        total += 2.0 * taps * output.numel()

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    weights = next(network.parameters())
    with torch.inference_mode():
        network(weights.new_zeros(1, network.config.in_channels, size_px, size_px))
    for handle in handles:
        handle.remove()
    return total


def naive(network: UNet, plane: NDArray[np.float32]) -> NDArray[np.int32]:
    """What one would write first: float32, 572 px tiles side by side, one after the other."""
    halo, step = halo_px(4), 388
    shape = plane.shape[1:]
    rest = [-n % step for n in shape]
    padded = np.pad(plane, ((0, 0), (halo, halo + rest[0]), (halo, halo + rest[1])), mode="reflect")
    out = np.empty((network.config.n_outputs, shape[0] + rest[0], shape[1] + rest[1]), np.float32)
    with torch.no_grad():
        for y in range(0, shape[0], step):
            for x in range(0, shape[1], step):
                tile = torch.from_numpy(padded[None, :, y : y + 572, x : x + 572].copy())
                out[:, y : y + step, x : x + step] = network(tile)[0].numpy()
    scores = foreground_scores(out[: network.config.n_classes, : shape[0], : shape[1]])
    return label_instances(scores)


def monai(predictor: Predictor, plane: NDArray[np.float32], overlap: float) -> torch.Tensor:
    """MONAI's tiles, averaged where they overlap, with the same weights and number format."""
    from monai.inferers import sliding_window_inference

    halo = halo_px(predictor._network.config.depth)

    def padded(window: torch.Tensor) -> torch.Tensor:
        return predictor._network(F.pad(window, (halo,) * 4, mode="reflect"))

    image = torch.from_numpy(plane.copy())[None].to(
        predictor.device, predictor.dtype, memory_format=torch.channels_last
    )
    with torch.inference_mode():
        out: torch.Tensor = sliding_window_inference(image, (388, 388), 1, padded, overlap=overlap)
    return out


def paper_network(runs: int, with_monai: bool) -> dict[str, float]:
    """The network of 2015, 31 million weights, on 512 x 512."""
    compute = choose()
    config = NewModel(width=64, in_channels=1, dropout=0.0, distance=False)
    model = new_model(config, "paper", 0)
    model.network.eval()
    plane = model.prepare(mosaic(512, "images")[None])
    predictor = Predictor(model.network, compute.torch_device, compute.torch_dtype)
    where = {"device": compute.torch_device, "dtype": compute.torch_dtype}
    tile = torch.zeros(1, 1, 700, 700).to(**where, memory_format=torch.channels_last)
    fastest, work = ceiling(compute)

    def ours() -> object:
        scores = model.scores(plane, compute, None, lambda fraction, message: None)
        return model.instances(scores, PredictConfig())

    @torch.inference_mode()
    def network() -> object:
        return predictor._network(tile)

    works: dict[str, Work] = {
        "ceiling": fastest,
        "ours": ours,
        "network": network,
        "naive": lambda: naive(model.network, plane),
    }
    if with_monai:
        works["monai 0.25"] = lambda: monai(predictor, plane, 0.25)
        works["monai 0.5"] = lambda: monai(predictor, plane, 0.5)
    found = medians(runs, **works)
    found["share of the ceiling"] = (
        operations(model.network, 700) / found["network"] / (work / found["ceiling"])
    )
    return found


def shipped(runs: int, with_monai: bool, size_px: int) -> dict[str, float]:
    """`nuclei`, warm, stage by stage."""
    compute = choose()
    model = LoadedModel(*load_model(SHIPPED / "nuclei.safetensors"))
    image = mosaic(size_px, "images")[None]
    plane = model.prepare(image)
    predictor = Predictor(model.network, compute.torch_device, compute.torch_dtype)
    scores = model.scores(plane, compute, None, lambda fraction, message: None)

    def all_of_it() -> object:
        found = model.scores(model.prepare(image), compute, None, lambda f, m: None)
        return model.instances(found, PredictConfig())

    works: dict[str, Work] = {
        "end to end": all_of_it,
        "normalise": lambda: model.prepare(image),
        "scores": lambda: model.scores(plane, compute, None, lambda f, m: None),
        "instances": lambda: model.instances(scores, PredictConfig()),
    }
    if with_monai:
        works["monai 0.25"] = lambda: monai(predictor, plane, 0.25)
        works["monai 0.5"] = lambda: monai(predictor, plane, 0.5)
    found = medians(runs, **works)
    return {**found, "cells": int(model.instances(scores, PredictConfig()).max())}


def weights(runs: int) -> dict[str, float]:
    """The weight map beside one distance transform per cell over the whole frame."""
    some, many = (separate_touching(mosaic(n, "masks")) for n in (512, 4096))
    middle = separate_touching(mosaic(2048, "masks"))
    cells = np.unique(middle)[1:]

    def one_cell() -> object:
        return ndimage.distance_transform_edt(middle != cells[0])

    found = medians(
        runs,
        **{
            "512": lambda: border_weights(some),
            "2048": lambda: border_weights(middle),
            "4096": lambda: border_weights(many),
            "naive, one cell of 2048": one_cell,
        },
    )
    return {
        **found,
        "cells in 2048": len(cells),
        "times faster than naive": len(cells) * found["naive, one cell of 2048"] / found["2048"],
        "cost of a pixel, 4096 over 512": found["4096"] / 64 / found["512"],
    }


def formats() -> dict[str, float]:
    """Labels of `nuclei` in bfloat16 beside those in float32, on every tenth image of dsb2018."""
    folder = data_folder() / "dsb2018" / "images"
    model = LoadedModel(*load_model(SHIPPED / "nuclei.safetensors"))
    same, foreground, cells = 0, 0, np.zeros(2)
    for path in sorted(folder.iterdir())[::10]:
        image = read_image(path)
        plane = np.moveaxis(image.data, -1, 0) if image.data.ndim == 3 else image.data[None]
        plane = model.prepare(plane[:3])
        labels = []
        for precision in ("bfloat16", "float32"):
            scores = model.scores(plane, choose("auto", precision), None, lambda f, m: None)
            labels.append(model.instances(scores, PredictConfig()))
        here, exact = (each > 0 for each in labels)
        same += int((here & exact).sum())
        foreground += int(exact.sum())
        cells += [each.max() for each in labels]
    return {
        "share of float32's foreground": same / foreground,
        "cells in bfloat16 over float32": cells[0] / cells[1],
    }


def instances(runs: int) -> dict[str, float]:
    """From perfect scores of 4096 x 4096 to labels."""
    truth = separate_touching(mosaic(4096, "masks"))
    scores = ndimage.gaussian_filter((truth > 0).astype(np.float32), 0.7)
    return medians(runs, **{"4096": lambda: label_instances(scores)})


def training(runs: int) -> dict[str, float]:
    """A step of width 32 on a tile of 572 px, and drawing its sample."""
    compute = choose()
    model = new_model(NewModel(width=32, in_channels=1, dropout=0.0), "new", 0)
    size = 512
    image, labels = mosaic(size, "images"), mosaic(size, "masks")
    plane = AnnotatedPlane(model.prepare(image[None]), labels.astype(np.int32))
    config = replace(train_config("fast", steps=10**6), tile_px=572)
    trainer = Trainer(model.network, [plane], config, compute.torch_device, compute.torch_dtype)
    sampler = Sampler([plane], model.network.config, config, compute.torch_device)
    fastest, work = ceiling(compute)
    found = medians(runs, ceiling=fastest, step=trainer.step, sample=sampler.draw)
    # Forward, and twice as much backward.
    rate = 3 * operations(model.network, 572) / found["step"]
    found["share of the ceiling"] = rate / (work / found["ceiling"])
    found["share of the sample"] = found["sample"] / found["step"]
    return found


def memory(size_px: int) -> dict[str, float]:
    """Peak memory, in GB, over an image of 16 bits and its labels; in a process of its own."""
    values: dict[str, float] = run_python(f"from benchmarks.speed import large; large({size_px})")
    return values


def large(size_px: int) -> None:
    """Segment an image of so many pixels a side, and print the peak memory."""
    from napari_unet.models.store import ModelStore
    from napari_unet.service.segmentation import SegmentationService

    piece = mosaic(1024, "images").astype(np.uint16) * 200
    n = -(-size_px // 1024)
    image = np.tile(piece, (n, n))[:size_px, :size_px].copy()
    service = SegmentationService(ModelStore(Path("none")))
    start = time.perf_counter()
    labels = service.segment(image, "YX", "nuclei").wait().labels
    seconds = time.perf_counter() - start
    service.close()
    over = (status("VmHWM") * 2**20 - image.nbytes - labels.nbytes) / 1e9
    megapixels = size_px**2 / 1e6
    print(json.dumps({"GB over image and labels": over, "s per megapixel": seconds / megapixels}))


def main() -> None:
    """Measure all, a table as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--monai", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{choose().describe()}, torch {torch.__version__}")
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "the network of 2015, 512 x 512": lambda: paper_network(options.runs, options.monai),
        "nuclei, 512 x 512": lambda: shipped(options.runs, options.monai, 512),
        "nuclei, 2048 x 2048": lambda: shipped(options.runs, options.monai, 2048),
        "bfloat16 beside float32": formats,
        "weight map": lambda: weights(options.runs),
        "instances": lambda: instances(options.runs),
        "training": lambda: training(options.runs),
    }
    if options.large:
        parts["nuclei, 1000 x 1000"] = lambda: memory(1000)
        parts["nuclei, 10,000 x 10,000"] = lambda: memory(10_000)
    results = {}
    for title, part in parts.items():
        results[title] = part()
        print(title)
        for name, value in results[title].items():
            print(f"  {name:32} {value:10.4g}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
