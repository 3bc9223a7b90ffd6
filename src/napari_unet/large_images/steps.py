"""The steps of a large job: pieces of one kind after those of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_unet.large_images.executors import Workers

# Of each kind of piece, what it does, in words, and its share of the time.
KINDS = {
    "tile": ("segmenting", 0.88),
    "block": ("labelling cells", 0.08),
    "ids": ("writing labels", 0.03),
    "level": ("writing the pyramid", 0.005),
    "overlap": ("linking cells", 0.5),
    "object": ("writing labels", 0.45),
}


class Steps:
    """Has pieces done; what is done already is not done again.

    Parameters
    ----------
    workers
        Who does it.
    progress
        Called with (fraction, message) after each piece; may raise to stop.
    """

    def __init__(self, workers: Workers, progress: Callable[[float, str], None]) -> None:
        self._workers, self.progress = workers, progress
        self._fraction = 0.0

    def do(self, kind: str, work: Callable[..., None], pieces: list[tuple[Any, ...]]) -> None:
        """Call `work(*piece)` for all pieces of a kind; each begins with its plane and number."""
        message, share = KINDS[kind.partition("-")[0]]
        left = [piece for piece in pieces if not piece[0].is_done(kind, piece[1])]
        before = len(pieces) - len(left)
        for done in self._workers.run(work, left):
            self.progress(self._fraction + share * (before + done) / len(pieces), message)
        self._fraction = min(1.0, self._fraction + share)
