"""The row of the dock that offers a fine-tune which was cut short."""

from __future__ import annotations

from datetime import datetime

from qtpy.QtCore import Signal

from napari_unet.learning.budget import clock
from napari_unet.learning.cut_short import CutShort
from napari_unet.plugin.dock.rows.offer_row import OfferRow, when_words
from napari_unet.plugin.jobs.cut_short import CutShortFinetunes


class CutShortRow(OfferRow):
    """Offers to go on with a fine-tune that was cut short, or to drop it.

    Parameters
    ----------
    finetunes
        Finds these fine-tunes, and goes on with them.

    Signals
    -------
    failed
        A sentence for the user.
    """

    failed = Signal(str)

    def __init__(self, finetunes: CutShortFinetunes) -> None:
        super().__init__()
        self._finetunes = finetunes
        self._cut: CutShort | None = None
        self.go_on = self.add_button("Go on", "Go on with this training", self._go_on)
        self.discard = self.add_button(
            "Discard",
            "Drop what it has learnt; the corrections are kept, and this is not offered again",
            self._discard,
        )

    def on_offered(self, cut: CutShort | None) -> None:
        """Offer a fine-tune; None: there is none."""
        self._cut = cut
        if cut is None:
            self.withdraw()
        else:
            self.offer(_words(cut))

    def _go_on(self) -> None:
        if self._cut is not None:
            try:
                self._finetunes.go_on(self._cut)
            except ValueError as error:
                self.failed.emit(str(error))

    def _discard(self) -> None:
        if self._cut is not None:
            self._finetunes.discard(self._cut)


def _words(cut: CutShort) -> str:
    when = when_words(datetime.fromisoformat(cut.saved))
    if cut.seconds is not None:
        most = "at most " if cut.is_open else ""
        after = f"{clock(cut.elapsed_s)} of {most}{clock(cut.seconds)}"
    else:
        after = f"{cut.step} of {cut.steps} steps"
    return f"A fine-tune of {cut.parent.name} was cut short {when}, after {after}."
