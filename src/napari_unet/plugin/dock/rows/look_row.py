"""The row of the dock for an image that the model saw resized or in other colours."""

from __future__ import annotations

from collections.abc import Callable

from napari_unet.plugin.dock.rows.offer_row import OfferRow


class LookRow(OfferRow):
    """Offers to segment an image as it is, after the model saw it changed.

    Parameters
    ----------
    use_as_is
        Called when the button is clicked.
    """

    def __init__(self, use_as_is: Callable[[], None]) -> None:
        super().__init__()
        tip = "Segment the image as it is: at its own size and in its own colours"
        self.use_as_is = self.add_button("Use as it is", tip, use_as_is)

    def show_for(self, words: str) -> None:
        """Show the button if there are words on how the image was changed."""
        if words:
            self.offer()
        else:
            self.withdraw()
