"""Small pictures of images, made in a thread when they come into view."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QIcon, QImage, QPixmap

from napari_unet.core.axes import get_plane, plane_indices
from napari_unet.plugin.viewer.background import Background
from napari_unet.projects.project import Project

# Width and height, in pixels of the screen, and how many are kept.
SIDE_PX, _MOST = 40, 500


class Thumbnails:
    """Makes the pictures of the images of a project, one after the other.

    Parameters
    ----------
    came
        Called with the name of an image whose picture is there.
    """

    def __init__(self, came: Callable[[str], None]) -> None:
        self._came, self._background = came, Background()
        self._known: OrderedDict[str, QIcon] = OrderedDict()
        self._asked: set[str] = set()

    def clear(self) -> None:
        """Forget all pictures."""
        self._known.clear()
        self._asked.clear()

    def close(self) -> None:
        """Make no more."""
        self._background.close()

    def icon(self, project: Project, name: str) -> QIcon | None:
        """Return the picture of an image; None if it is not made yet: it comes."""
        if name not in self._known and name not in self._asked:
            self._asked.add(name)
            self._background.run(partial(picture, project, name), partial(self._take, name))
        return self._known.get(name)

    def _take(self, name: str, future: Future[NDArray[np.uint8]]) -> None:
        # An image that cannot be read has no picture, and is not asked for again.
        if future.exception() is not None or name not in self._asked:
            return
        self._asked.discard(name)
        pixels = future.result()
        height, width = pixels.shape[:2]
        kind = QImage.Format.Format_RGB888
        image = QImage(pixels.tobytes(), width, height, 3 * width, kind)
        self._known[name] = QIcon(QPixmap.fromImage(image.copy()))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        self._came(name)


def picture(project: Project, name: str) -> NDArray[np.uint8]:
    """Return the middle plane of an image, small, as (Y, X, 3) uint8; takes long.

    Raises
    ------
    ValueError, OSError
        If the image cannot be read.
    """
    image = project.read(name)
    indices = list(plane_indices(image.axes, image.data.shape))
    plane = get_plane(image.data, image.axes, indices[len(indices) // 2])
    step = max(1, -(-max(plane.shape[-2:]) // SIDE_PX))
    small = np.nan_to_num(plane[:, ::step, ::step].astype(np.float32))
    small = small[:3] if image.is_colour and len(small) >= 3 else small[:1].repeat(3, axis=0)
    low, high = np.percentile(small, (1, 99.8))
    shown = (small - low) / max(high - low, 1e-6)
    pixels: NDArray[np.uint8] = (255 * shown.clip(0, 1)).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
