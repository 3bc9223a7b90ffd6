"""What a job can use in a worker: data that its client sent, and where results go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from napari_unet.backends.local import LocalBackend
from napari_unet.config import Device
from napari_unet.core.arrays import Index, Pixels
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job
from napari_unet.learning.live_view import View
from napari_unet.serving.arrays import unpack_array
from napari_unet.serving.messages import SentView

# Largest number of inputs that a job waits for at once.
_AT_ONCE = 8


class JobInputs:
    """The inputs and outputs of a job.

    Parameters
    ----------
    job
        The job.
    folder
        Its folder; outputs and temporary files go there.
    blobs
        Folder of the blobs of its person.
    given
        SHA-256 of each input that is there already, by key.
    say_wants
        Is called with the keys that the job waits for.
    backend
        Does the work on this computer.
    device
        Where networks run if the client leaves the choice.
    largest
        Largest array, in bytes.
    """

    def __init__(
        self,
        job: Job[object],
        folder: Path,
        blobs: Path,
        given: dict[str, str],
        say_wants: Callable[[Sequence[str]], None],
        backend: LocalBackend,
        device: Device,
        largest: int,
    ) -> None:
        self._job, self.folder, self._blobs = job, folder, blobs
        self._given, self._say_wants = dict(given), say_wants
        self.backend, self.device, self._largest = backend, device, largest
        self._arrived = threading.Condition()
        self._view: View | None = None

    def give(self, key: str, sha256: str) -> None:
        """Note that an input has come; called from another thread."""
        with self._arrived:
            self._given[key] = sha256
            self._arrived.notify_all()

    def fetch(self, *keys: str, ahead: Sequence[str] = ()) -> list[Pixels]:
        """Wait until the client has sent some arrays, and return them.

        Parameters
        ----------
        keys
            Their keys.
        ahead
            Keys that the client sends as well, and for which a later call waits.

        Raises
        ------
        ValueError
            If one is no array, or too large.
        """
        return [unpack_array(p.read_bytes(), self._largest) for p in self._wait(keys, ahead)]

    def fetch_many(self, keys: Iterable[str]) -> Iterator[Pixels]:
        """Fetch many arrays, a few at a time."""
        rest = list(keys)
        while rest:
            yield from self.fetch(*rest[:_AT_ONCE], ahead=rest[_AT_ONCE : 2 * _AT_ONCE])
            rest = rest[_AT_ONCE:]

    def files(self, hashes: Sequence[str]) -> list[Path]:
        """Return the paths of files, given their SHA-256, once they are there."""
        return self._wait(hashes)

    def output(self, name: str, content: bytes) -> None:
        """Write a file that the client can fetch."""
        with replacing(self.folder / "out" / name) as part:
            part.write_bytes(content)

    def view(self) -> View | None:
        """Return what the user looks at, or None."""
        return self._view

    def look_at(self, view: SentView) -> None:
        """Note what the user looks at; called from another thread."""
        piece = unpack_array((self._blobs / view.sha256).read_bytes(), self._largest)
        if piece.ndim == 3:
            image = PieceOfPlane(view.shape, view.at, piece, view.sha256)
            self._view = View(image, "CYX", (), view.box, view.statistics)

    def _wait(self, keys: Sequence[str], ahead: Sequence[str] = ()) -> list[Path]:
        with self._arrived:
            missing = [key for key in (*keys, *ahead) if key not in self._given]
            if missing:
                self._say_wants(missing)
            while not self._given.keys() >= set(keys):
                self._arrived.wait(0.1)
                self._job.check()
            return [self._blobs / self._given[key] for key in keys]


class PieceOfPlane:
    """A plane (C, Y, X) of which only a piece is here; no other part can be read.

    Parameters
    ----------
    shape
        Of the plane.
    at
        Row and column of the first pixel of the piece.
    piece
        (C, Y, X).
    sha256
        Of what was sent.
    """

    def __init__(
        self, shape: tuple[int, ...], at: tuple[int, int], piece: Pixels, sha256: str
    ) -> None:
        self.shape, self.ndim, self.dtype, self.sha256 = shape, 3, piece.dtype, sha256
        self._at, self._piece = at, piece

    def __getitem__(self, key: Index) -> Pixels:
        channels, *box = key if isinstance(key, tuple) else (key,)
        parts = []
        for part, first, size in zip(box, self._at, self._piece.shape[1:], strict=True):
            if not isinstance(part, slice) or not first <= part.start <= part.stop <= first + size:
                raise ValueError("the view is larger than what was sent of it; look again")
            parts.append(slice(part.start - first, part.stop - first))
        return self._piece[(channels, *parts)]

    def __array__(self) -> Pixels:
        return self._piece
