"""The row of the dock for the version that the last fine-tune made."""

from __future__ import annotations

from collections.abc import Callable

from napari_unet.plugin.dock.offer_row import OfferRow
from napari_unet.plugin.results.versions import Versions


class VersionRow(OfferRow):
    """Offers to use a version that the check refused, or to go back to the model before.

    Parameters
    ----------
    versions
        Says which version the last fine-tune made, and whether it was refused.
    use, back
        Called when a button is clicked.
    """

    def __init__(
        self, versions: Versions, use: Callable[[], None], back: Callable[[], None]
    ) -> None:
        super().__init__()
        self._versions = versions
        self.use = self.add_button("Use it anyway", "The new version in spite of the check", use)
        self.back = self.add_button(
            "Go back", "To the model before the fine-tune, and its labels", back
        )
        self.look()

    def look(self) -> None:
        """Show the buttons that have something to do."""
        can_use, can_go_back = self._versions.refused is not None, self._versions.can_go_back
        self.use.setVisible(can_use)
        self.back.setVisible(can_go_back)
        if can_use or can_go_back:
            self.offer()
        else:
            self.withdraw()
