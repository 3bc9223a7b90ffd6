"""The row of the dock that names a model which suits the image better."""

from __future__ import annotations

from collections.abc import Callable

from napari_unet.plugin.dock.rows.offer_row import OfferRow


class BetterModelRow(OfferRow):
    """Offers to segment with another model.

    Parameters
    ----------
    try_model
        Called with the name of the model when the button is clicked.
    """

    def __init__(self, try_model: Callable[[str], None]) -> None:
        super().__init__()
        self._try_model, self._name = try_model, ""
        tip = "Choose this model, and segment the image with it"
        self.take = self.add_button("Try", tip, self._take)
        self.text.setToolTip("It finds the same cells when the image is turned and resized")

    def on_named(self, name: str) -> None:
        """Offer a model."""
        self._name = name
        self.take.setText(f"Try {name}")
        self.offer(f'"{name}" seems to suit this image better.')

    def _take(self) -> None:
        self.withdraw()
        self._try_model(self._name)
