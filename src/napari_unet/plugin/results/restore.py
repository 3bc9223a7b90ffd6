"""Corrections that were saved before napari ended: found, offered, restored."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import partial
from uuid import uuid4

from napari.layers import Image
from napari.viewer import Viewer
from psygnal import Signal

from napari_unet.corrections.drafts import Draft
from napari_unet.jobs import sentence
from napari_unet.plugin.edits.autosave import Autosave, labels_from
from napari_unet.plugin.results.outlines import Outlines
from napari_unet.plugin.results.result_layers import Results
from napari_unet.plugin.viewer.background import Background
from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.layers import LayerImage, image_from_layer
from napari_unet.plugin.viewer.record import record_of

logger = logging.getLogger(__name__)


class Restoring:
    """Offers the draft of an image, and makes its Labels layer again.

    Parameters
    ----------
    viewer
        Where the layers are.
    background
        The thread that reads.
    autosave
        Knows the drafts.
    results
        Knows whether an image has labels already.
    outlines
        Whether the labels are shown as outlines.

    Signals
    -------
    offered
        Image, and when its draft was begun (ISO 8601); an empty text if there is none.
    restored
        A sentence.
    failed
        A sentence.
    """

    offered = Signal(object, str)
    restored = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        viewer: Viewer,
        background: Background,
        autosave: Autosave,
        results: Results,
        outlines: Outlines,
    ) -> None:
        self._viewer, self._background = viewer, background
        self._autosave, self._results, self._outlines = autosave, results, outlines
        # Drafts that are being read.
        self.is_looking = 0

    def look(self, image: Image | None) -> None:
        """See whether there is a draft of an image without labels; `offered` tells."""
        if image is None or self._results.current(image) is not None:
            self.offered.emit(image, "")
            return
        find = self._finder(image)
        if find is None:
            self.offered.emit(image, "")
            return

        def tell(future: Future[Draft | None]) -> None:
            self.is_looking -= 1
            draft = None if future.exception() else future.result()
            if future.exception():
                logger.info("no draft could be read", exc_info=future.exception())
            if draft is not None and self._results.current(image) is None:
                self.offered.emit(image, draft.created)
            else:
                self.offered.emit(image, "")

        if self._background.run(find, tell):
            self.is_looking += 1

    def restore(self, image: Image) -> None:
        """Make the labels of an image as they were; `restored` or `failed` tells."""
        find = self._finder(image)
        if find is not None and self._background.run(find, partial(self._show, image)):
            self.is_looking += 1

    def dismiss(self, image: Image) -> None:
        """Offer the draft of an image no more."""
        source, unique_id, name = image_from_layer(image), str(image.unique_id), image.name
        self.offered.emit(image, "")
        self._background.run(
            lambda: self._autosave.dismiss(self._autosave.key_of(unique_id, source, name)),
            lambda future: None,
        )

    def _finder(self, image: Image) -> partial[Draft | None] | None:
        try:
            source = image_from_layer(image)
        except ValueError:
            return None
        unique_id, name = str(image.unique_id), image.name
        return partial(self._find, unique_id, source, name)

    def _find(self, unique_id: str, source: LayerImage, name: str) -> Draft | None:
        return self._autosave.find(self._autosave.key_of(unique_id, source, name))

    def _show(self, image: Image, future: Future[Draft | None]) -> None:
        self.is_looking -= 1
        self.offered.emit(image, "")
        try:
            draft = future.result()
            if draft is None:
                raise ValueError("what was saved is not there any more; segment the image")
            layer = labels_from(image, draft)
        except (ValueError, OSError, KeyError, TypeError) as error:
            self.failed.emit(sentence(error))
            return
        owner = uuid4().hex
        # Known since the draft was looked for, so this is quick.
        key = self._autosave.key_of(str(image.unique_id), image_from_layer(image), image.name)
        self._autosave.adopt(key, owner)
        record = record_of(layer)
        record.draft, record.draft_owner = key, owner
        outline(layer, self._outlines.width_px(layer.data.shape))
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = layer
        damaged = f"; {len(draft.damaged)} planes could not be read" if draft.damaged else ""
        self.restored.emit(f"The corrections are loaded{damaged}")
