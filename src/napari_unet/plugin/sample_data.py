"""Sample images for *File > Open Sample*."""

from __future__ import annotations

from skimage import data

from napari_unet.core.arrays import Pixels

LayerData = list[tuple[Pixels, dict[str, object], str]]


def tissue() -> LayerData:
    """Colon tissue, stained; on the disk with scikit-image. (512, 512, 3) uint8."""
    return [(data.immunohistochemistry(), {"name": "tissue", "rgb": True}, "image")]


def mitosis() -> LayerData:
    """Nuclei of human cells; scikit-image downloads it and checks its hash. (512, 512) uint8.

    Raises
    ------
    ValueError
        If it was not downloaded before, and cannot be now.
    """
    try:
        return [(data.human_mitosis(), {"name": "mitosis"}, "image")]
    except ImportError:
        why = "scikit-image needs the package pooch for that: pip install pooch"
    except (OSError, ValueError):
        # No connection, or a page of somebody in between instead of the file.
        why = "that failed: check the connection to the internet"
    raise ValueError(
        f"the sample 'mitosis' is downloaded once, and {why}; the sample 'tissue' needs no download"
    )
