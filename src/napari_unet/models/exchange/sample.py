"""The image with which an archive is tested, and its cover."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.network.unet import UNet
from napari_unet.models.exchange.description import halo_to_crop_px
from napari_unet.models.header import ModelHeader

# Side of what is left of the test image after its halo was cropped, in pixels, and in planes. They
# are multiples of 2^depth up to depths of 7 and 4.
_INNER_PX, _INNER_PLANES = 128, 16


def sample_image(network: UNet, header: ModelHeader) -> NDArray[np.float32]:
    """Return a raw image (C, Y, X), or stack (C, Z, Y, X), of a valid size.

    It is one of those that ship with the program (`learning.replay`) where the model learnt from
    them, and is drawn otherwise. So no image of a user is given away.
    """
    depths = network.config.depths
    inner = (_INNER_PLANES, _INNER_PX, _INNER_PX)[-len(depths) :]
    shape = tuple(
        max(2**depth, size) + 2 * halo_to_crop_px(depth)
        for size, depth in zip(inner, depths, strict=True)
    )
    shipped = _shipped(header.replay)
    if shipped is not None and len(shipped) == network.config.in_channels:
        part = shipped[(slice(None), *(slice(n) for n in shape))]
        if part.shape[1:] == shape:
            return part.astype(np.float32)
    return np.repeat(_discs(shape)[None], network.config.in_channels, 0)


def cover(image: NDArray[np.float32], scores: NDArray[np.float32], network: UNet) -> bytes:
    """Return a PNG, twice as wide as high: the test image without its halo, and the foreground.

    Parameters
    ----------
    image, scores
        (C, Y, X) and framed (n_outputs, Y, X), or both with a Z before Y.
    network
        The network that the scores are from.
    """
    import imageio.v3 as iio

    if image.ndim == 4:
        middle = image.shape[1] // 2
        image, scores = image[:, middle], scores[:, middle]
    halo = halo_to_crop_px(network.config.depth)
    inner = (slice(None), slice(halo, -halo), slice(halo, -halo))
    picture = image[inner] / max(1.0, float(image[inner].max()))
    colours = picture if len(picture) == 3 else picture[:1].repeat(3, 0)
    foreground = (1 - scores[inner][:1]).repeat(3, 0)
    both = np.concatenate((colours, foreground), 2).transpose(1, 2, 0)
    pixels = np.rint(255 * both.clip(0, 1)).astype(np.uint8)
    content: bytes = iio.imwrite("<bytes>", pixels.repeat(2, 0).repeat(2, 1), extension=".png")
    return content


def _shipped(replay: str) -> NDArray[np.uint8] | None:
    """Return the middle one of the images of a sample in the package, (C, Y, X); None without."""
    file = files("napari_unet") / "weights" / f"{replay}-replay.npz"
    if not (replay.isidentifier() and file.is_file()):
        return None
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images: NDArray[np.uint8] = arrays["images"]
    middle: NDArray[np.uint8] = images[len(images) // 2]
    return middle


def _discs(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return bright discs, or balls, of several sizes on a dark noisy ground."""
    rng = np.random.default_rng(0)
    image = rng.normal(40, 5, shape)
    places = np.indices(shape, np.float32)
    grid = np.meshgrid(*(np.arange(16, n, 32) for n in shape), indexing="ij")
    for centre in np.stack(grid, -1).reshape(-1, len(shape)):
        middle = centre + rng.uniform(-3, 3, len(shape))
        far = np.sqrt(sum((p - m) ** 2 for p, m in zip(places, middle, strict=True)))
        image += 150 / (1 + np.exp(2 * (far - rng.uniform(6, 12))))
    return np.clip(np.rint(image), 0, 255).astype(np.float32)
