"""The steps of a large job: all tasks of one kind, then all tasks of the next kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari_unet.large_images.executors import Workers
from napari_unet.large_images.tasks import VolumePlane

# For each kind of task, the message to show, and the fraction of the time that it usually takes.
KINDS = {
    "tile": ("segmenting", 0.88),
    "block": ("labelling cells", 0.08),
    "ids": ("writing labels", 0.03),
    "level": ("writing the pyramid", 0.005),
    "overlap": ("linking cells", 0.5),
    "object": ("writing labels", 0.45),
}


class Steps:
    """Runs tasks on the workers, but not those that are done already, and reports the progress.

    Parameters
    ----------
    workers
        The executor that runs the tasks.
    progress
        Called with (fraction, message) after each task; may raise to stop.
    """

    def __init__(self, workers: Workers, progress: Callable[[float, str], None]) -> None:
        self._workers, self.progress = workers, progress
        self._fraction = 0.0

    def do(
        self,
        kind: str,
        work: Callable[..., None],
        pieces: Sequence[tuple[VolumePlane, int, *tuple[object, ...]]],
    ) -> None:
        """Call `work(*piece)` for all pieces of a kind that are not done yet.

        The first two arguments in each piece are its plane and its number.
        """
        message, share = KINDS[kind.partition("-")[0]]
        left = [piece for piece in pieces if not piece[0].is_done(kind, piece[1])]
        before = len(pieces) - len(left)
        for done in self._workers.run(work, left):
            self.progress(self._fraction + share * (before + done) / len(pieces), message)
        self._fraction = min(1.0, self._fraction + share)
