"""The networks beside the rate of the machine's convolutions, and number formats.

The ceiling is the rate of one 3 x 3 convolution, 64 to 64 channels, on 512 x 512; on a GPU that of
a product of matrices, 8192 a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.common import data_folder, mosaic
from benchmarks.speed.table import Row, Work, medians
from napari_unet.config import PredictConfig
from napari_unet.core.cells.instances import label_instances
from napari_unet.core.network.unet import UNet, halo_px
from napari_unet.engine.predict import Predictor, foreground_scores
from napari_unet.io.images import read_image
from napari_unet.learning.training import NewModel, new_model
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import Compute, choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import SHIPPED


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


def paper_network(runs: int) -> Iterator[Row]:
    """The network of 2015, 31 million weights, on 512 x 512."""
    compute = choose()
    config = NewModel(width=64, in_channels=1, dropout=0.0, distance=False)
    model = new_model(config, "paper", 0)
    model.network.eval()
    plane = model.prepare(mosaic(512, "images")[None])
    fastest, work = ceiling(compute)

    def ours() -> object:
        scores = model.scores(plane, compute, None, lambda fraction, message: None)
        return model.instances(scores, PredictConfig())

    found = medians(
        runs,
        ceiling=fastest,
        network=inside(model.network, compute, 700),
        ours=ours,
        naive=lambda: naive(model.network, plane),
    )
    share = operations(model.network, 700) * found["ceiling"] / work
    what = "network of 2015, 512 x 512"
    yield Row(f"{what}, inside the network", found["network"], "the ceiling", share, 0.85)
    yield Row(f"{what}, end to end", found["ours"], "float32, tiles of 572 px", found["naive"])


def nuclei_network(runs: int) -> Iterator[Row]:
    """`nuclei`, on a tile and stage by stage."""
    compute = choose()
    model = LoadedModel(*load_model(SHIPPED / "nuclei.safetensors"))
    image = mosaic(2048, "images")[None]
    plane = model.prepare(image)
    scores = model.scores(plane, compute, None, lambda fraction, message: None)
    fastest, work = ceiling(compute)
    tile_px = 780
    found = medians(
        runs,
        ceiling=fastest,
        network=inside(model.network, compute, tile_px),
        normalise=lambda: model.prepare(image),
        scores=lambda: model.scores(plane, compute, None, lambda fraction, message: None),
        instances=lambda: model.instances(scores, PredictConfig()),
    )
    share = operations(model.network, tile_px) * found["ceiling"] / work
    yield Row(f"nuclei, a tile of {tile_px} px", found["network"], "the ceiling", share)
    for stage in ("normalise", "scores", "instances"):
        yield Row(f"nuclei, 2048 x 2048, {stage}", found[stage])


def inside(network: UNet, compute: Compute, size_px: int) -> Work:
    """The work of a network on one tile of zeros."""
    predictor = Predictor(network, compute.torch_device, compute.torch_dtype)
    tile = torch.zeros(1, network.config.in_channels, size_px, size_px)
    tile = tile.to(predictor.device, predictor.dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> object:
        return predictor._network(tile)

    return work


def formats() -> Iterator[Row]:
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
    beside = "foreground of float32, every tenth image of dsb2018"
    yield Row("nuclei in bfloat16", foreground, beside, same, 0.999, "px")
    yield Row("nuclei in bfloat16", cells[1], "cells in float32", cells[0], 0.995, "cells")
