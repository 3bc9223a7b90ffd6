"""Linked cells and what was painted on some of their planes: one object, under the painted id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.pairs import count_pairs
from napari_unet.plugin.viewer.layers import Index

Labels = NDArray[np.int32]
# A new id and an old one, and how many pixels speak for their being the same object.
Kin = Counter[tuple[int, int]]

# Share of the smaller one that makes two sections the same.
_MOSTLY = 0.5


def kin_of(new: Labels, old: Labels, seen: NDArray[np.bool_]) -> Kin:
    """Predicted objects of a plane and those that the user saw in their place.

    Parameters
    ----------
    new
        (Y, X), what was predicted; no id is one of `old`.
    old
        (Y, X), what the user saw, and made of it.
    seen
        (Y, X), where.
    """
    both = (new > 0) & (old > 0) & seen
    found: Kin = Counter()
    pairs = (column.tolist() for column in count_pairs(new[both], old[both]))
    for ahead, before, pixels in zip(*pairs, strict=True):
        smaller = min(int((new == ahead).sum()), int((old == before).sum()))
        if pixels > _MOSTLY * smaller:
            found[ahead, before] = pixels
    return found


def reunite(labels: Labels, planes: Iterable[Index], kin: Kin) -> None:
    """Give linked objects the id that the user knows them by, in place.

    Painted ids never change. A section on a plane that has the painted id already stays as it is:
    no two cells of a plane become one.

    Parameters
    ----------
    labels
        The new result, with what was seen in it.
    planes
        Those that were segmented anew.
    kin
        Of all of them.
    """
    names: dict[int, int] = {}
    for (ahead, before), _ in kin.most_common():
        names.setdefault(ahead, before)
    if not names:
        return
    present = {index: set(np.unique(labels[index]).tolist()) for index in planes}
    for index, ids in present.items():
        taken, renamed = set(ids), {}
        for ahead, before in names.items():
            if ahead in ids and before not in taken:
                renamed[ahead] = before
                taken.add(before)
        for ahead, before in renamed.items():
            plane = labels[index]
            plane[plane == ahead] = before
