"""The row of the dock for an unfinished job on a server."""

from __future__ import annotations

from qtpy.QtCore import Signal

from napari_unet.plugin.dock.rows.offer_row import OfferRow
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.serving.client.unfinished import UnfinishedJob


class ServerRow(OfferRow):
    """Offers to reconnect to a job that was left on a server, or to end it.

    Parameters
    ----------
    controller
        Lists and follows these jobs.

    Signals
    -------
    failed
        A sentence for the user.
    """

    failed = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._note: UnfinishedJob | None = None
        self.reconnect = self.add_button(
            "Reconnect", "Follow this training, and get its model", self._reconnect
        )
        self.drop = self.add_button(
            "Drop it", "End this training there; it is not offered again", self._drop
        )

    def look(self) -> None:
        """Offer the oldest job, unless something runs."""
        notes = (
            [] if self._controller.follower.is_busy else self._controller.service.servers.pending()
        )
        self._note = notes[0] if notes else None
        if self._note is None:
            self.withdraw()
        else:
            self.offer(f"A training of {self._note.name} was left on {self._note.computer}.")

    def _reconnect(self) -> None:
        if self._note is not None:
            self._try(self._note)

    def _try(self, note: UnfinishedJob) -> None:
        try:
            self._controller.reconnect(note)
        except (ValueError, OSError) as error:
            self.failed.emit(str(error))

    def _drop(self) -> None:
        if self._note is not None:
            self._controller.service.servers.drop(self._note)
            self.look()
