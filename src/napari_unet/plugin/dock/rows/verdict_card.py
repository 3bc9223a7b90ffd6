"""The card that says whether the fine-tuned model is better, with what can be done about it."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout

from napari_unet.plugin.dock.steps import Note
from napari_unet.plugin.dock.theme import restyle
from napari_unet.plugin.dock.widgets import button
from napari_unet.plugin.results.versions import Versions

# Time that is added to a training that was not long enough, in seconds.
MORE_S = 120.0


class VerdictCard(QFrame):
    """The verdict on the version that the last fine-tune made; hidden without one.

    Parameters
    ----------
    versions
        Says which version that is, and whether it was refused.
    again, back
        Segment with it; return to the model before.
    more, use
        Train for longer; use it although it was refused.
    """

    def __init__(
        self,
        versions: Versions,
        again: Callable[[], None],
        back: Callable[[], None],
        more: Callable[[], None],
        use: Callable[[], None],
    ) -> None:
        super().__init__()
        self._versions = versions
        self.can_train_more = True
        self.note = Note()
        self.again = button("Segment again", "Find the cells with the new model", again)
        self.back = button("", "Use the model before the fine-tune, and show its labels", back)
        self.more = button(
            f"Train {MORE_S / 60:.0f} min more",
            "Fine-tune again, for the same time and 2 minutes more",
            more,
        )
        self.use = button("Use the new one anyway", "Use the new model in spite of the test", use)
        row = QHBoxLayout()
        for part in (self.again, self.back, self.more, self.use):
            row.addWidget(part, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 4, 2)
        layout.setSpacing(3)
        layout.addWidget(self.note)
        layout.addLayout(row)
        self.setProperty("card", "good")
        self.look()

    @property
    def is_needed(self) -> bool:
        """Whether there is a verdict to show."""
        return self._versions.refused is not None or self._versions.can_go_back

    @property
    def next_button(self) -> QPushButton | None:
        """The button to click next; None where more cells are to be corrected first."""
        if self._versions.refused is None:
            return self.again
        return self.more if self.can_train_more and self._versions.wants_time else None

    def look(self) -> None:
        """Show the buttons that have something to do."""
        refused = self._versions.refused is not None
        can_go_back = self._versions.can_go_back
        self.again.setVisible(can_go_back)
        self.back.setVisible(can_go_back)
        self.back.setText(f"Return to {self._versions.before or 'the old model'}")
        self.more.setVisible(refused and self.can_train_more)
        self.use.setVisible(refused)
        self.setProperty("card", "doubtful" if refused else "good")
        restyle(self)
        self.setVisible(self.is_needed)
