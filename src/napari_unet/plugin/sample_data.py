"""Sample images for *File > Open Sample*. None is downloaded."""

from __future__ import annotations

from skimage import data

from napari_unet.core.arrays import Pixels
from napari_unet.plugin import drawn_images

LayerData = list[tuple[Pixels, dict[str, object], str]]


def nuclei() -> LayerData:
    """Nuclei in fluorescence, drawn. (512, 512) uint8."""
    return [(drawn_images.nuclei()[0], {"name": "nuclei"}, "image")]


def stack() -> LayerData:
    """Nuclei in a stack, drawn; planes are 2 um apart, pixels 0.5 um. (12, 256, 256) uint8."""
    more: dict[str, object] = {
        "name": "stack",
        "scale": (2.0, 0.5, 0.5),
        "axis_labels": ("z", "y", "x"),
    }
    return [(drawn_images.stack()[0], {**more, "units": ("um",) * 3}, "image")]


def movie() -> LayerData:
    """Nuclei that move and divide, drawn. (10, 256, 256) uint8."""
    more: dict[str, object] = {"name": "movie", "axis_labels": ("t", "y", "x")}
    return [(drawn_images.movie()[0], more, "image")]


def channels() -> LayerData:
    """Cells in two channels, drawn: their bodies, then their nuclei. (2, 384, 384) uint8."""
    more: dict[str, object] = {"name": "channels", "axis_labels": ("c", "y", "x")}
    return [(drawn_images.channels()[0], more, "image")]


def phase_contrast() -> LayerData:
    """Cells as in phase contrast, drawn. (512, 512) uint8."""
    return [(drawn_images.phase_contrast()[0], {"name": "phase contrast"}, "image")]


def tissue() -> LayerData:
    """Colon tissue, stained; on the disk with scikit-image. (512, 512, 3) uint8."""
    return [(data.immunohistochemistry(), {"name": "tissue", "rgb": True}, "image")]
