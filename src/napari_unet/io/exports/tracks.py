"""Tracks of a movie: as a table for napari, and as the Cell Tracking Challenge wants results.

Both need cells that are linked along T. Which cell is a daughter of which is found by
`core.cells.lineage`.
"""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.cells.lineage import Track, find_tracks
from napari_unet.io.atomic import clean_once, part_of, replacing
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.images import write_image

# The largest id of a track that the challenge's masks of 16 bits hold.
_LARGEST_ID = 2**16 - 1
# The names of files in a folder of results of the challenge.
_RESULT = re.compile(r"mask\d+\.tif|res_track\.txt")


def write_track_table(path: Path, labelled: Labelled) -> None:
    """Write the centres of all cells as a CSV: ID, T, (Z,) Y, X as napari's Tracks, in pixels.

    Further columns: `label`, the id of the cell; `parent`, the ID of the track that became this
    one, or 0; `division`, 1 where that one divided.
    """
    rows = [
        (track.id, time, *centre, track.label, track.parent, int(track.is_daughter))
        for track, time, centre in track_points(labelled)
    ]
    space = ["Z", "Y", "X"] if "Z" in labelled.axes else ["Y", "X"]
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "T", *space, "label", "parent", "division"])
        for row in rows:
            writer.writerow(f"{at:.9g}" if isinstance(at, float) else at for at in row)


def track_points(labelled: Labelled) -> list[tuple[Track, int, list[float]]]:
    """Return the track, the time and the centre (Z, Y, X or Y, X) of each cell, in pixels.

    They are in the order of the ids of the tracks, and of the times.

    Raises
    ------
    ValueError
        If there is no time, or no cell is linked through it.
    """
    tracks = _tracks(labelled)
    points = [
        (present[label], time, centre)
        for time, present in enumerate(_by_frame(tracks, labelled.n_times))
        for label, centre in _centres(labelled.frame(time)).items()
    ]
    return sorted(points, key=lambda point: (point[0].id, point[1]))


def write_challenge(path: Path, labelled: Labelled) -> None:
    """Write a folder of masks (mask000.tif, ...) and res_track.txt: L B E P, one line a track.

    Raises
    ------
    ValueError
        If the folder holds other files, or there are too many tracks for masks of 16 bits.
    """
    others = [] if not path.exists() else [p.name for p in path.iterdir() if not _is_result(p)]
    if others:
        raise ValueError(
            f"the folder {path} holds other files ({others[0]}), so it is not replaced; give a new "
            "folder"
        )
    tracks = _tracks(labelled)
    if len(tracks) > _LARGEST_ID:
        raise ValueError(
            f"there are {len(tracks)} tracks, and the masks of the challenge hold {_LARGEST_ID}; "
            "export a part of the movie"
        )
    if max((track.id for track in tracks), default=0) > _LARGEST_ID:
        tracks = _renumbered(tracks)
    path.parent.mkdir(parents=True, exist_ok=True)
    clean_once(path.parent)
    part, before = part_of(path), part_of(path)
    try:
        part.mkdir()
        digits = max(3, len(str(labelled.n_times - 1)))
        axes = "ZYX" if "Z" in labelled.axes else "YX"
        for time, present in enumerate(_by_frame(tracks, labelled.n_times)):
            ids = {label: track.id for label, track in present.items()}
            mask = _mapped(labelled.frame(time), ids).astype(np.uint16)
            write_image(part / f"mask{time:0{digits}}.tif", mask, axes, compress=True)
        lines = [f"{track.id} {track.begin} {track.end} {track.parent}\n" for track in tracks]
        (part / "res_track.txt").write_text("".join(lines), encoding="ascii")
        if path.exists():
            path.replace(before)
        part.replace(path)
    finally:
        for left in (part, before):
            shutil.rmtree(left, ignore_errors=True)


def _is_result(path: Path) -> bool:
    return path.is_file() and _RESULT.fullmatch(path.name) is not None


def _tracks(labelled: Labelled) -> list[Track]:
    """Return the tracks of a movie, in the order of their ids.

    Raises
    ------
    ValueError
        If there is no time, or no cell is linked through it.
    """
    if "T" not in labelled.axes:
        raise ValueError(
            f"the labels have the axes {labelled.axes} and tracks need a time axis T; name the "
            "axes, for example TYX"
        )
    tracks = find_tracks(labelled.frame(time) for time in range(labelled.n_times))
    labels = [track.label for track in tracks]
    linked = any(track.end > track.begin for track in tracks) or len(set(labels)) < len(labels)
    if not linked and len({track.begin for track in tracks}) > 1:
        raise ValueError(
            "no cell has the same id at two times, so there are no tracks; link the cells along T "
            "when they are segmented"
        )
    return tracks


def _by_frame(tracks: list[Track], n_times: int) -> list[dict[int, Track]]:
    """Return the track of each cell, by its id in the labels, for each frame."""
    frames: list[dict[int, Track]] = [{} for _ in range(n_times)]
    for track in tracks:
        for time in range(track.begin, track.end + 1):
            frames[time][track.label] = track
    return frames


def _renumbered(tracks: list[Track]) -> list[Track]:
    """Return tracks with ids from 1 on."""
    ids = {track.id: number for number, track in enumerate(tracks, start=1)} | {0: 0}
    return [replace(track, id=ids[track.id], parent=ids[track.parent]) for track in tracks]


def _centres(frame: NDArray[np.int32]) -> dict[int, list[float]]:
    """Return the centre of each cell, by its id."""
    places = np.nonzero(frame)
    ids, cell, sizes = np.unique(frame[places], return_inverse=True, return_counts=True)
    centres = np.stack([np.bincount(cell, at, len(ids)) / sizes for at in places], axis=1)
    return dict(zip(ids.tolist(), centres.tolist(), strict=True))


def _mapped(frame: NDArray[np.int32], ids: dict[int, int]) -> NDArray[np.int64]:
    """Return labels with other ids; 0 stays 0."""
    labels, place = np.unique(frame, return_inverse=True)
    return np.array([ids.get(label, 0) for label in labels.tolist()])[place.reshape(frame.shape)]
