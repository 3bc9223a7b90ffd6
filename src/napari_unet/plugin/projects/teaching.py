"""What the images of a project teach: their corrections, as a fine-tune takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_unet.corrections.annotations import Annotated, Correction, PaintedPlane
from napari_unet.corrections.drafts import Draft
from napari_unet.plugin.edits.autosave import memo_from
from napari_unet.plugin.edits.seen import SeenPlane
from napari_unet.projects.project import Project


def annotated(project: Project, names: Sequence[str], ring_px: int) -> tuple[Annotated, ...]:
    """Return images with what was corrected and confirmed on them; takes long.

    Parameters
    ----------
    project
        Holds the images.
    names
        Which.
    ring_px
        Width of the ring around corrected cells that counts as looked at.

    Raises
    ------
    ValueError, OSError
        If an image cannot be read.
    """
    found = []
    for name in names:
        draft = project.corrections(name)
        seen = () if draft is None else corrections_in(draft, ring_px)
        if seen:
            image = project.read(name)
            found.append(Annotated(image.data, image.axes, seen, name))
    return tuple(found)


def corrections_in(draft: Draft, ring_px: int) -> tuple[Correction, ...]:
    """Return what a model can learn from a draft."""
    memo, found = memo_from(draft), []
    for index in np.ndindex(*draft.labels.shape[:-2]):
        painted = PaintedPlane(index, draft.baseline[index], draft.labels[index])
        marks = tuple(mark for mark in memo.marks if tuple(mark["index"]) == index)
        plane = SeenPlane(painted, memo.carried.get(index), marks, memo.drafts)
        found.append(plane.correction(ring_px, memo.classes))
    return tuple(correction for correction in found if correction is not None)
