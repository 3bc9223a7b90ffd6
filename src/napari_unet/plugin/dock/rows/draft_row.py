"""The row of the dock that offers corrections which were saved before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from napari.layers import Image

from napari_unet.plugin.dock.rows.offer_row import OfferRow, when_words
from napari_unet.plugin.results.restore import Restoring


class DraftRow(OfferRow):
    """Offers to restore the corrections of an image that were saved before.

    Parameters
    ----------
    restoring
        Finds and restores saved corrections.
    image
        Returns the image that is chosen in the dock.
    """

    def __init__(self, restoring: Restoring, image: Callable[[], Image | None]) -> None:
        super().__init__()
        self._restoring, self._image = restoring, image
        self.restore = self.add_button(
            "Load", "Show the labels with what you painted then", self._restore
        )
        self.dismiss = self.add_button(
            "Discard", "Begin anew; this is not offered again", self._dismiss
        )

    def on_offered(self, image: Image | None, created: str) -> None:
        """Offer corrections that were begun at a time (ISO 8601); an empty text: none."""
        if image != self._image():
            return
        if not created:
            self.withdraw()
            return
        self.offer(f"Unfinished corrections from {when_words(datetime.fromisoformat(created))}.")

    def _restore(self) -> None:
        image = self._image()
        if image is not None:
            self._restoring.restore(image)

    def _dismiss(self) -> None:
        image = self._image()
        if image is not None:
            self._restoring.dismiss(image)
