"""A new result with what the user had made of the old one: nothing painted is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.pairs import count_pairs

Labels = NDArray[np.int32]

# Of a predicted cell, and of an old one that was cut: share that makes them the same, or covered.
_MOSTLY = 0.5


def carry_over(new: Labels, old: Labels, seen: NDArray[np.bool_]) -> tuple[Labels, dict[int, int]]:
    """Paste what was seen of old labels (Y, X) into new ones.

    Where it was seen, the result has the old objects: the same outlines, no two of them joined.
    Predicted objects that are mostly covered give way, the others are clipped. An old object of
    which only a part was seen, a neighbour in the ring around a corrected cell for example, goes
    on as the predicted object that lies on most of it; where nothing was predicted, it stays
    whole. So does one that was not seen, where what was predicted on most of it gives way.

    Parameters
    ----------
    new
        What was predicted; no id is one of `old`.
    old
        What the user saw, and made of it.
    seen
        Where.

    Returns
    -------
    labels
        New array.
    went_on
        Predicted objects that an old one went on as: new id -> old id.
    """
    merged = np.where(seen, 0, new).astype(np.int32)
    if not seen.any():
        return merged, {}
    new_ids, predicted = _numbered(new)
    old_ids, painted = _numbered(old)
    area = np.bincount(predicted.ravel(), minlength=len(new_ids))
    covered = np.bincount(predicted[seen], minlength=len(new_ids))
    drop = covered > _MOSTLY * area
    partner = _partners(predicted, painted, seen, drop)
    drop[[0, *partner]] = False
    gives_way = drop[predicted]
    merged[gives_way] = 0
    # An object over a seen cell and its neighbour says nothing of the neighbour.
    under = np.bincount(painted[gives_way], minlength=len(old_ids))
    alone = under > _MOSTLY * np.bincount(painted.ravel(), minlength=len(old_ids))
    # What was seen, some of it under the id of the object that it goes on as.
    names = old_ids.copy()
    alone[painted[seen]] = True
    for ahead, before in partner.items():
        names[before], alone[before] = new_ids[ahead], False
    alone[0] = False
    merged[seen] = names[painted[seen]]
    rest = alone[painted] & (merged == 0) & ~seen
    merged[rest] = old[rest]
    return merged, {int(new_ids[n]): int(old_ids[o]) for n, o in partner.items()}


def carry_around(
    new: Labels, old: Labels, seen: NDArray[np.bool_], box: tuple[slice, slice]
) -> Labels:
    """Put new labels (Y, X) into a box of old ones, which stay as they are elsewhere.

    An old object that reaches into the box goes on in it, under its own id, as the predicted
    object that lies on most of what is there.

    Parameters
    ----------
    new, old, seen
        As for `carry_over`.
    box
        Rows and columns.
    """
    stays = np.ones(old.shape, bool)
    stays[box] = seen[box]
    merged, went_on = carry_over(new, old, stays)
    for ahead, before in went_on.items():
        merged[merged == ahead] = before
    return merged


def _partners(
    new: NDArray[np.intp], old: NDArray[np.intp], seen: NDArray[np.bool_], drop: NDArray[np.bool_]
) -> dict[int, int]:
    """For old objects that are seen in part: which new object each goes on as, new -> old.

    A new object that is mostly covered (`drop`) goes on as what it covers most, or not at all:
    it may be another outline of a corrected cell, and the old object a fragment beside it.
    """
    cut = np.zeros(int(old.max()) + 1, bool)
    cut[old[seen]] = True
    cut &= np.bincount(old[~seen], minlength=len(cut)) > 0
    cut[0] = False
    both = (new > 0) & (old > 0)
    if not (cut[old] & both).any():
        return {}
    aheads, befores, overlap = count_pairs(new[both], old[both])
    most = np.zeros(len(drop), np.int64)
    np.maximum.at(most, aheads, overlap)
    fit = cut[befores] & (~drop[aheads] | (overlap == most[aheads]))
    aheads, befores, overlap = aheads[fit], befores[fit], overlap[fit]
    new_area, old_area = np.bincount(new.ravel()), np.bincount(old.ravel())
    partners: dict[int, int] = {}
    for number in np.argsort(-overlap, kind="stable"):
        ahead, before = int(aheads[number]), int(befores[number])
        smaller = min(new_area[ahead], old_area[before])
        is_free = ahead not in partners and before not in partners.values()
        if is_free and overlap[number] > _MOSTLY * smaller:
            partners[ahead] = before
    return partners


def _numbered(labels: Labels) -> tuple[Labels, NDArray[np.intp]]:
    """The ids that there are, 0 first, and for each pixel the number of its id among them."""
    ids, numbers = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    return ids.astype(np.int32), numbers.ravel()[:-1].reshape(labels.shape)
