"""A sample of the training images of shipped models, so that fine-tunes do not forget them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_unet.core.network.unet import UNetConfig
    from napari_unet.engine.samples import AnnotatedPlane

# In the stored sample, intensities are bytes; this byte stands for the normalised intensity 1.
ONE = 170


@cache
def replay_planes(name: str, network: UNetConfig) -> tuple[AnnotatedPlane, ...]:
    """Return the sample of a shipped model, at the size that its network sees.

    Parameters
    ----------
    name
        Name of the sample, from `ModelHeader.replay`.
    network
        Architecture of the network that will be trained on them.

    Returns
    -------
    The annotated planes; none if there is no such sample, or if the network is for stacks or for
    another number of channels.
    """
    from napari_unet.engine.samples import AnnotatedPlane

    file = files("napari_unet") / "weights" / f"{name}-replay.npz"
    if not (name.isidentifier() and file.is_file()) or network.z_depth is not None:
        return ()
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    if images.shape[1] != network.in_channels:
        return ()
    return tuple(
        AnnotatedPlane(image.astype(np.float32) / ONE, label.astype(np.int32))
        for image, label in zip(images, labels, strict=True)
    )
