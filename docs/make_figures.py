"""Draws the pictures of `how-it-works.md` and `lessons.md` with this package's own functions.

python docs/make_figures.py writes docs/images/how-*.png. It takes about a minute on a CPU.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.data import immunohistochemistry
from torch import Tensor, nn
from torch.nn import functional as F

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.core.cells.instances import separate_touching
from napari_unet.core.intensity import normalise
from napari_unet.core.network.unet import UNet, UNetConfig, halo_px, initialise
from napari_unet.core.network.weight_map import weight_map
from napari_unet.core.tiling import plan_tiles
from napari_unet.engine.augmentation_preview import preview
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.models.checkpoint import load_model
from napari_unet.models.store import ModelStore

FOLDER = Path(__file__).parent / "images"
GREEN, MAGENTA, BLUE = (79, 209, 165), (220, 70, 170), (122, 168, 255)

Picture = NDArray[np.uint8]


def membranes(side: int, n_cells: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return an image that looks like membranes in an electron microscope, and its cells."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-10, side + 10, (n_cells, 2))
    waves = [ndimage.gaussian_filter(rng.normal(size=(side, side)), 12) for _ in range(2)]
    at = np.mgrid[:side, :side] + 60 * np.stack(waves)
    distance = np.hypot(*(at[:, None] - points.T[:, :, None, None]))
    nearest, second = np.sort(distance, axis=0)[:2]
    labels = distance.argmin(axis=0).astype(np.int32) + 1
    image = 0.7 + 0.1 * ndimage.gaussian_filter(rng.normal(size=(side, side)), 3) * 6
    image -= 0.5 * np.exp(-(((second - nearest) / 4) ** 2))
    image += rng.normal(0, 0.06, (side, side))
    return image.astype(np.float32), np.where(second - nearest > 3, labels, 0).astype(np.int32)


def grey(values: NDArray[np.floating], low: float = 0.0, high: float = 1.0) -> Picture:
    """Return values as an RGB picture: low is black, high is white."""
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=-1)


def heat(values: NDArray[np.floating], high: float) -> Picture:
    """Return values as an RGB picture: black, blue, pink, white."""
    colours = np.array([(8, 8, 20), (50, 80, 200), (240, 120, 190), (255, 255, 255)], float)
    x = np.clip(values / high, 0, 1) * (len(colours) - 1)
    steps = np.arange(len(colours))
    return np.stack([np.interp(x, steps, c) for c in colours.T], axis=-1).astype(np.uint8)


def coloured(labels: NDArray[np.integer]) -> Picture:
    """Return labels as an RGB picture, background black."""
    colours = np.random.default_rng(3).integers(70, 256, (int(labels.max()) + 1, 3))
    colours[0] = 0
    return colours[labels].astype(np.uint8)


def side_by_side(name: str, panels: list[tuple[str, Picture]], side: int = 240) -> None:
    """Write square pictures beside each other, each with a line of text above it."""
    gap, line = 12, 24
    sheet = Image.new("RGB", (len(panels) * (side + gap) - gap, side + line), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for i, (text, picture) in enumerate(panels):
        scaled = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(scaled, (i * (side + gap), line))
        draw.text((i * (side + gap), 2), text, fill=(30, 30, 30), font=font)
    # 128 colours are enough, and make small files.
    sheet.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def up_convolution() -> None:
    """Two ways to make a map of features larger, with the weights and maps of `nuclei`.

    Unpooling puts each value back to where the pooling took it from. The up-convolution multiplies
    each value with learnt weights, four pixels for one, and adds up all coarse channels.
    """
    network, _ = load_model(ModelStore().find("nuclei").path)
    side = 8 * 24 + 28
    tissue = immunohistochemistry()[100 : 100 + side, 150 : 150 + side].transpose(2, 0, 1)
    seen: dict[str, Tensor] = {}
    network.down[0].register_forward_hook(lambda _, __, output: seen.update(first=output))
    network.up[-1].register_forward_hook(
        lambda _, inputs, output: seen.update(low=inputs[0], high=output)
    )
    with torch.inference_mode():
        network(torch.from_numpy(normalise(tissue)[0])[None])

    def strongest(name: str) -> Tensor:
        channels = seen[name][0]
        return channels[int(channels.flatten(1).std(1).argmax())]

    first = strongest("first")[80:136, 80:136]
    pooled, places = F.max_pool2d(first[None, None], 2, return_indices=True)
    unpooled = F.max_unpool2d(pooled, places, 2)[0, 0].numpy()
    low, high = strongest("low").numpy()[26:54, 26:54], strongest("high").numpy()[52:108, 52:108]
    side_by_side(
        "how-up-convolution",
        [
            ("features, before pooling", grey(first.numpy(), 0, float(first.max()))),
            ("pooled, then unpooled", grey(unpooled, 0, float(first.max()))),
            ("one of 64 coarse channels", grey(low, low.min(), low.max())),
            ("after the up-convolution", grey(high, high.min(), high.max())),
        ],
    )


def elastic() -> None:
    """A training sample before and after its deformation, with the grid."""
    image, labels = membranes(300, 60, seed=1)
    plane = AnnotatedPlane(image[None], labels)
    config = FinetuneConfig(
        tile_px=320, seed=5, augment=AugmentConfig(rotate=False, flip=False, scale=1.0)
    )
    sampler = Sampler([plane], UNetConfig(depth=3, width=4), config, torch.device("cpu"))
    shown = preview(sampler, depth=3, draws=1)
    high = float(shown.weight.max())

    def with_grid(picture: NDArray[np.float32], lines: NDArray[np.uint8]) -> Picture:
        out = grey(picture[0, ..., 0], 0, 1.1)
        out[lines[0] > 0] = MAGENTA
        return out

    side_by_side(
        "how-elastic",
        [
            ("before", with_grid(shown.image, shown.grid)),
            ("after: elastic deformation", with_grid(shown.deformed_image, shown.deformed_grid)),
            ("labels, deformed alike", coloured(shown.deformed_labels[0])),
            ("weights, made afterwards", heat(shown.weight[0], high)),
        ],
    )


def weights() -> None:
    """The weight map for two widths of the border term."""
    labels = separate_touching(membranes(160, 22, seed=2)[1])
    classes = (labels > 0).astype(int)
    w_c = np.ones(2, np.float32)
    maps = [weight_map(labels, classes, w_c, w0=10, sigma_px=sigma) for sigma in (5, 2)]
    side_by_side(
        "how-weights",
        [
            ("cells", coloured(labels)),
            ("weights, sigma 5 px (ours)", heat(maps[0], 11)),
            ("weights, sigma 2 px", heat(maps[1], 11)),
        ],
    )


def tiles() -> None:
    """What the network reads for one tile, and what it writes."""
    image, _ = membranes(500, 170, seed=4)
    halo = halo_px(4)
    mirrored = grey(np.pad(image, halo, mode="reflect"), 0, 1.1)
    plan = plan_tiles(image.shape, largest_px=572, depth=4)
    panels = []
    for i, tile in enumerate((plan[0], plan[-1])):
        picture = mirrored.copy()
        picture[:halo] //= 2
        picture[-halo:] //= 2
        picture[halo:-halo, :halo] //= 2
        picture[halo:-halo, -halo:] //= 2
        canvas = Image.fromarray(picture)
        draw = ImageDraw.Draw(canvas)
        (y0, y1), (x0, x1) = tile.read
        draw.rectangle((x0 + halo, y0 + halo, x1 + halo, y1 + halo), outline=BLUE, width=6)
        rows, columns = tile.write
        write = (columns.start, rows.start, columns.stop, rows.stop)
        draw.rectangle(tuple(edge + halo for edge in write), outline=GREEN, width=6)
        panels.append((f"tile {1 if i == 0 else len(plan)} of {len(plan)}", np.asarray(canvas)))
    side_by_side("how-tiles", panels, side=300)


def padding() -> None:
    """The scores of one network over two tiles: with valid convolutions, and with padded ones."""
    torch.manual_seed(0)
    config = UNetConfig(depth=2, width=8, dropout=0.0)
    valid = UNet(config).eval()
    initialise(valid, seed=1)
    same = copy.deepcopy(valid)
    for layer in same.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.padding = (1, 1)
    image = torch.from_numpy(membranes(188, 40, seed=6)[0])[None, None]
    halo, out = halo_px(2), 188 - 2 * halo_px(2)
    half = out // 2 // 4 * 4

    def score(network: UNet, part: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(part).softmax(1)[0, 1].numpy()

    # The left tile gives the columns before `half`, the right one those after it.
    whole = score(valid, image)
    tiled = whole.copy()
    tiled[:, :half] = score(valid, image[..., : half + 4 + 2 * halo])[:, :half]
    tiled[:, half:] = score(valid, image[..., half:])
    size = 188 // 2 // 4 * 4
    whole_same = score(same, image)
    tiled_same = np.concatenate(
        [score(same, image[..., :size]), score(same, image[..., size:])], axis=1
    )
    largest = float(np.abs(tiled_same - whole_same).max())
    print(f"valid: largest difference {np.abs(tiled - whole).max():.1e}; same: {largest:.2f}")
    side_by_side(
        "how-padding",
        [
            ("two tiles, padded", grey(tiled_same, tiled_same.min(), tiled_same.max())),
            ("its error at the seam", heat(np.abs(tiled_same - whole_same), largest)),
            ("two tiles, valid", grey(tiled, tiled.min(), tiled.max())),
            ("its error: none", heat(np.abs(tiled - whole), largest)),
        ],
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw_picture in (up_convolution, elastic, weights, tiles, padding):
        draw_picture()
