"""Cells that are linked through a movie, as napari's Tracks layer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from napari.layers import Labels, Tracks
from napari.viewer import Viewer

from napari_unet.core.cells.lineage import Track
from napari_unet.plugin.viewer.layers import add_quietly, axes_of
from napari_unet.plugin.viewer.record import helper_metadata, is_helper

Points = list[tuple[Track, int, list[float]]]


def show_tracks(viewer: Viewer, layer: Tracks) -> str:
    """Show a layer of tracks in place of the one before; returns a sentence."""
    for before in list(viewer.layers):
        if isinstance(before, Tracks) and is_helper(before) and before.name == layer.name:
            viewer.layers.remove(before)
    add_quietly(viewer, layer)
    n = len(np.unique(layer.data[:, 0]))
    parents = Counter(parent for of in layer.graph.values() for parent in of)
    divided = sum(children > 1 for children in parents.values())
    many = "" if n == 1 else "s"
    return f"{n} track{many} and {divided} division{'' if divided == 1 else 's'} are shown"


def tracks_layer(labels: Labels, points: Points, name: str) -> Tracks:
    """Return a layer of tracks that lies over labels; divisions are its graph. Takes long.

    Parameters
    ----------
    labels
        The labels; no proxy, see `viewer.layers.bare`.
    points
        What `io.exports.tracks.track_points` returns.
    name
        Of the layer.

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
