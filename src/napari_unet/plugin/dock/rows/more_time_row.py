"""The row of the dock that says that a training is too short, and offers more time."""

from __future__ import annotations

from collections.abc import Callable

from napari_unet.jobs import Progress, duration
from napari_unet.plugin.dock.rows.offer_row import OfferRow


class MoreTimeRow(OfferRow):
    """Offers to train for longer.

    Parameters
    ----------
    extend
        Called with the number of seconds that the running training should take in all.
    """

    def __init__(self, extend: Callable[[float], None]) -> None:
        super().__init__()
        self._extend, self._taken_s, self._offered_s = extend, 0.0, 0.0
        self.take = self.add_button(
            "Train longer", "Let this training take so long in all", self._take
        )

    def clear(self) -> None:
        """Forget what was offered: no training runs, or a new one begins."""
        self._taken_s = 0.0
        self.withdraw()

    def look(self, progress: Progress, *, is_finishing: bool) -> None:
        """Offer more time if the progress of a job says that there is too little."""
        if progress.preview is not None:
            return  # it tells of something else
        short = None if is_finishing else progress.too_short
        # The training may not know yet of an offer that was taken a moment ago.
        if short is None or short.enough_s <= self._taken_s:
            self.withdraw()
            return
        self._offered_s = short.enough_s
        self.take.setText(f"Train {duration(short.enough_s)}")
        self.offer(f"⚠ {short}.")

    def _take(self) -> None:
        self._taken_s = self._offered_s
        self._extend(self._taken_s)
        self.withdraw()
