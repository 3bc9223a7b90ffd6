"""Cells that are linked through a movie, as napari's Tracks layer."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels, Tracks
from napari.viewer import Viewer

from napari_unet.core.cells.lineage import Track
from napari_unet.plugin.viewer.layers import add_quietly, axes_of
from napari_unet.plugin.viewer.record import helper_metadata, is_helper

Points = list[tuple[Track, int, list[float]]]


def show_tracks(viewer: Viewer, labels: Labels, points: Points, name: str) -> str:
    """Show tracks in place of those before; returns a sentence.

    Raises
    ------
    ValueError
        As `tracks_layer`.
    """
    layer = tracks_layer(labels, points, name)
    for before in list(viewer.layers):
        if isinstance(before, Tracks) and is_helper(before) and before.name == name:
            viewer.layers.remove(before)
    add_quietly(viewer, layer)
    tracks = {track.id: track for track, _, _ in points}.values()
    n, divided = len(tracks), len({track.parent for track in tracks if track.is_daughter})
    many = "" if n == 1 else "s"
    return f"{n} track{many} and {divided} division{'' if divided == 1 else 's'} are shown"


def tracks_layer(labels: Labels, points: Points, name: str) -> Tracks:
    """Return a layer of tracks that lies over labels; divisions are its graph.

    Raises
    ------
    ValueError
        If the time is not the first axis of the labels, as napari needs it.
    """
    axes = axes_of(labels)
    if axes[0] != "T":
        raise ValueError(
            f"the axes are {axes} and napari shows tracks only where T is the first one; "
            "export them as a table instead"
        )
    space = [n for n, axis in enumerate(axes) if axis in "ZYX"]
    # In the order of the layer's axes; a channel of length 1 stays at 0.
    order = np.argsort(["ZYX".index(axes[n]) for n in space])
    rows = np.zeros((len(points), 1 + len(axes)))
    for row, (track, time, centre) in zip(rows, points, strict=True):
        row[:2] = track.id, time
        row[[1 + space[n] for n in order]] = centre
    lying = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return Tracks(
        rows,
        name=name,
        graph={track.id: [track.parent] for track, _, _ in points if track.parent},
        features={"cell": [track.label for track, _, _ in points]},
        metadata=helper_metadata(),
        **{option: getattr(labels, option) for option in lying},
    )
