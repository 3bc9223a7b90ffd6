"""Tracks of linked cells through a movie, and which track became which.

A track is a cell through frames without a gap. Where a cell is missing in between, or divides, its
track ends and others begin, whose parent it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.cells.linking import areas, overlaps

# Smallest share of a new cell that lies on a cell of the frame before, for that one to be its
# parent. Daughters move apart fast: in a movie of HeLa cells (Fluo-N2DL-HeLa, 12 frames of the
# Cell Tracking Challenge) 13 mothers had two daughters at 0.1, 2 at 0.5, and 18 at 0.01.
_MIN_SHARE = 0.1


@dataclass
class Track:
    """A cell through frames without a gap.

    Attributes
    ----------
    id
        Number of the track, unique in the movie. The first track of a cell has the cell's id.
    label
        The id of the cell in the labels.
    begin, end
        The first and the last frame, from 0.
    parent
        The `id` of the track that became this one; 0 if there is none.
    is_daughter
        Whether its parent divided: it became this track and at least one more.
    """

    id: int
    label: int
    begin: int
    end: int
    parent: int = 0
    is_daughter: bool = False


def find_tracks(frames: Iterable[NDArray[np.integer]]) -> list[Track]:
    """Return the tracks of a movie in which each cell has one id through time.

    A cell that is new in a frame, and lies with a tenth of its area or more on a cell of the frame
    before, is taken for a daughter of that one, whether that one ends or goes on. If it goes on,
    its track ends all the same, and it goes on as another daughter.

    Parameters
    ----------
    frames
        Labels of each time, (Y, X) or (Z, Y, X).

    Returns
    -------
    The tracks, in the order of their ids.

    Examples
    --------
    >>> for track in find_tracks([np.array([5, 5, 5, 5]), np.array([5, 5, 0, 6])]):
    ...     print(track)
    Track(id=5, label=5, begin=0, end=0, parent=0, is_daughter=False)
    Track(id=6, label=6, begin=1, end=1, parent=5, is_daughter=True)
    Track(id=7, label=5, begin=1, end=1, parent=5, is_daughter=True)
    """
    tracks: list[Track] = []
    # By the id of a cell, the place of its last track in `tracks`.
    last: dict[int, int] = {}
    # By the place of a track, that of its parent.
    parents: dict[int, int] = {}
    # Places of tracks that became others.
    became: set[int] = set()
    before: NDArray[np.integer] | None = None
    for time, frame in enumerate(frames):
        mothers = {} if before is None else _mothers(before, frame, last)
        divided = set(mothers.values())
        begun: dict[int, int] = {}
        for label in areas(frame)[0].tolist():
            old = last.get(label)
            if old is not None and label not in divided and tracks[old].end == time - 1:
                tracks[old].end = time
                continue
            parent = last.get(mothers.get(label, label))
            begun[label] = len(tracks)
            # A cell that comes back belongs to its old track, if nothing else became of that.
            is_born = label in mothers or label in divided
            if parent is not None and (is_born or parent not in became):
                parents[len(tracks)] = parent
                became.add(parent)
            tracks.append(Track(label if old is None else 0, label, time, time))
        last |= begun
        before = frame
    _number(tracks, parents)
    return sorted(tracks, key=lambda track: track.id)


def _mothers(
    before: NDArray[np.integer], frame: NDArray[np.integer], known: Container[int]
) -> dict[int, int]:
    """Return the mother of each cell of a frame that is not known yet, where it has one."""
    sizes = dict(zip(*(values.tolist() for values in areas(frame)), strict=True))
    pairs = zip(*(values.tolist() for values in overlaps(before, frame)), strict=True)
    found: dict[int, tuple[int, int]] = {}
    for mother, label, shared in pairs:
        if label not in known and shared >= _MIN_SHARE * sizes[label]:
            found[label] = max(found.get(label, (0, 0)), (shared, mother))
    return {label: mother for label, (_, mother) in found.items()}


def _number(tracks: Sequence[Track], parents: Mapping[int, int]) -> None:
    """Give ids to tracks that have none, tell them their parents, and find divisions."""
    unused = max((track.id for track in tracks), default=0) + 1
    for track in tracks:
        if not track.id:
            track.id, unused = unused, unused + 1
    births = Counter((parent, tracks[child].begin) for child, parent in parents.items())
    for child, parent in parents.items():
        tracks[child].parent = tracks[parent].id
        tracks[child].is_daughter = births[parent, tracks[child].begin] > 1
