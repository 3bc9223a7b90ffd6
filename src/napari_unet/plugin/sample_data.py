"""Sample images for *File > Open Sample*."""

from __future__ import annotations

from typing import Any

from skimage import data

LayerData = list[tuple[Any, dict[str, Any], str]]


def tissue() -> LayerData:
    """Colon tissue, stained; on the disk with scikit-image. (512, 512, 3) uint8."""
    return [(data.immunohistochemistry(), {"name": "tissue", "rgb": True}, "image")]


def mitosis() -> LayerData:
    """Nuclei of human cells; scikit-image downloads it and checks its hash. (512, 512) uint8."""
    return [(data.human_mitosis(), {"name": "mitosis"}, "image")]
