"""Labels of a stack or movie with one id for each object, along z, along t or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link


def check_link(link: Link, axes: str) -> None:
    """See that an image has the axes to link along.

    Raises
    ------
    ValueError
        If one is missing.
    """
    missing = [letter for letter in link.upper() if letter not in axes]
    if link != "none" and missing:
        raise ValueError(
            f"cells are to be linked along {missing[0]} and the image has the axes {axes}; "
            "name its axes, or do not link"
        )


def linked_ids(
    labels: NDArray[np.int32],
    axes: str,
    link: Link,
    check: Callable[[], None] = lambda: None,
    within: str = "YX",
) -> NDArray[np.int32]:
    """For each id of labels that of its object: 1, 2, ... in the order of the planes; 0 stays 0.

    Along t after z, objects are linked as wholes.

    Parameters
    ----------
    labels
        Ids unique over all planes.
    axes
        Theirs: T, Z, Y, X in any order.
    link
        Along what.
    check
        Called between planes; may raise to stop.
    within
        Axes along which a cell has one id already.
    """
    from napari_unet.core.stitch import link as link_frames

    numbers = np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    if link == "none":
        return numbers
    for letter in link.upper():
        others = [axis for axis in axes if axis not in letter + within]
        order = [axes.index(axis) for axis in (*others, letter, *within)]
        view = labels.transpose(order)
        step, highest = np.zeros_like(numbers), 0
        for where in np.ndindex(*view.shape[: len(others)]):
            for ids, linked in link_frames(_frames(view[where], numbers, check)):
                step[ids] = linked + highest
            highest = int(step.max())
        numbers, within = step[numbers], letter + within
    return numbers


def _frames(
    labels: NDArray[np.int32], numbers: NDArray[np.int32], check: Callable[[], None]
) -> Iterator[NDArray[np.int32]]:
    for frame in labels:
        check()
        yield numbers[frame]
