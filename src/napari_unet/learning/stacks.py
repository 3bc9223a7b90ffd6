"""Models of stacks: checks of input, annotated stacks, and a fine-tune from painted planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import get_stack, split_index
from napari_unet.core.boxes import Box
from napari_unet.core.intensity import Normalisation, measure
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.corrections.collection import collection_of
from napari_unet.jobs import Job
from napari_unet.learning.finetune import Improvement, store_version
from napari_unet.learning.training import NewModel, classes_of, learn, start_training, teach_classes
from napari_unet.learning.validation import Verdict
from napari_unet.models.device import choose
from napari_unet.models.header import ModelHeader
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# If more cells than this lie over cells with another id, and none over one with the same id, the
# labels are taken for planes with separate ids, and refused.
_FEW = 3


def check_has_stacks(axes: str, reference: str) -> None:
    """Raise ValueError unless an image with these axes consists of stacks."""
    if "Z" not in axes:
        raise ValueError(
            f"{reference} works on stacks and the image has the axes {axes}, no Z; "
            "give a stack, or choose a model of planes"
        )


def check_segmentable(
    version: ModelVersion, axes: str, config: PredictConfig, box: Box | None
) -> None:
    """Raise ValueError if stacks are to be segmented, and axes, settings or box do not fit."""
    if version.header.for_stacks:
        check_has_stacks(axes, version.reference)
        check_not_resized(version.header, config.diameter_px)
        if box is not None:
            raise ValueError(
                f"{version.reference} works on whole stacks, not on a part of a plane; segment the "
                "stack, or choose a model of planes"
            )
    elif config.in_3d:
        if "Z" not in axes:
            raise ValueError(
                f"cells are to be found in 3D and the image has the axes {axes}, no Z; give a "
                "stack, name its axes, or segment planes"
            )
        if box is not None:
            raise ValueError(
                "cells are found in 3D in whole stacks, not in a part of a plane; segment the "
                "stack, or planes"
            )


def in_stacks(header: ModelHeader, config: PredictConfig) -> bool:
    """Return whether an image is segmented stack by stack, not plane by plane."""
    return header.for_stacks or config.in_3d


def check_learns(header: ModelHeader | NewModel, server: str) -> None:
    """Raise ValueError for a model of stacks, which cannot be trained on a server."""
    stacks = header.dims == 3 if isinstance(header, NewModel) else header.for_stacks
    if stacks:
        raise ValueError(
            f"models of stacks do not learn on the server {server}; choose this computer, or a "
            "model of planes"
        )


def check_not_resized(header: ModelHeader, diameter_px: float | str | None) -> None:
    """Raise ValueError if a diameter is given for a model of stacks, which does not resize."""
    if header.for_stacks and diameter_px not in (None, "auto"):
        raise ValueError(
            f"the diameter is {diameter_px} and a model of stacks does not resize them; leave it "
            "out, or choose a model of planes"
        )


def fewest_planes(annotated: Sequence[Annotated]) -> int | None:
    """Return the smallest number of planes of a stack; None if there is no stack."""
    return min((i.image.shape[i.axes.index("Z")] for i in annotated if "Z" in i.axes), default=None)


def annotated_stacks(
    annotated: Sequence[Annotated],
    model: LoadedModel,
    config: FinetuneConfig,
    check: Callable[[], None],
    zoom: float = 1.0,
) -> Iterator[AnnotatedPlane]:
    """Yield annotated stacks, cut to the part that training windows around seen planes can reach.

    Planes without a correction are unseen. For parameters see `training.annotated_planes`.

    Raises
    ------
    ValueError
        If an image is not a stack, a diameter is given, or cells have another id on each plane.
    """
    from napari_unet.engine.samples import AnnotatedPlane

    check_not_resized(model.header, config.diameter_px)
    settings = Normalisation(**model.header.normalisation)
    for item in annotated:
        check_has_stacks(item.axes, model.header.name)
        planes: dict[tuple[int, ...], dict[int, Correction]] = {}
        for correction in item.corrections:
            index, z = split_index(item.axes, correction.index)
            planes.setdefault(index, {})[z] = correction
        for index, corrections in planes.items():
            check()
            stack = get_stack(item.image, item.axes, index)
            labels, seen, cell_classes = _truth(corrections, stack.shape[1:], model.header.classes)
            if not seen.any():
                continue
            _check_ids(labels)
            box = _reach(seen, config.side_px)
            statistics = item.statistics or measure(stack, settings)
            image = np.ascontiguousarray(model.prepare(stack, box, statistics))
            mask = seen[box]
            yield AnnotatedPlane(
                image,
                labels[box],
                None if mask.all() else mask,
                None if cell_classes is None else cell_classes[box],
                model.header.anisotropy or 1.0,
            )


def improve_stacks(
    job: Job[object],
    store: ModelStore,
    annotated: Sequence[Annotated],
    parent: ModelVersion,
    config: FinetuneConfig,
    name: str,
) -> Improvement:
    """Fine-tune a model of stacks on the new corrections, and store the new version.

    The painted planes are added to the model's collection. It stores planes without the stacks
    around them, so later fine-tunes do not train on them, and none of them is held out. For
    parameters see `finetune.improve`.
    """
    from napari_unet.models.checkpoint import load_model

    job.report(0.0, "loading the model")
    model = LoadedModel(*load_model(parent.path))
    names = {name for item in annotated for c in item.corrections for name in c.classes.values()}
    model = teach_classes(model, names)
    job.report(0.0, "keeping the corrections")
    collection = collection_of(store, name)
    for item in annotated:
        collection.add(item, config.side_px)
    job.report(0.0, "reading images")
    stacks = list(annotated_stacks(annotated, model, config, job.check))
    compute = choose(config.device, config.precision)
    trainer = start_training(model, stacks, config, compute)
    steps = learn(job, trainer)
    job.check()
    n_planes = sum(len(item.corrections) for item in annotated)
    words = f"{n_planes} corrected plane{'s' if n_planes > 1 else ''} of stacks"
    header = replace(
        model.header,
        parent=parent.sha256(),
        trained_on=(*model.header.trained_on, words),
        corrections={},
        plans=tuple(trainer.plans.items()),
        scores={},
    )
    added = store_version(store, model, header, name, config, steps, activate=True)
    verdict = Verdict(True, "models of stacks are not checked")
    return Improvement(added, parent, verdict, None, None, steps, compute.describe())


def _truth(
    corrections: dict[int, Correction], shape: Sequence[int], classes: Sequence[str]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Return labels, seen mask and classes (Z, Y, X) of a stack; labels are 0 where unseen."""
    labels, seen = np.zeros(shape, np.int32), np.zeros(shape, bool)
    named = any(c.classes for c in corrections.values())
    cell_classes = np.ones(shape, np.uint8) if named else None
    for z, correction in corrections.items():
        seen[z] = True if correction.trusted is None else correction.trusted
        labels[z] = np.where(seen[z], correction.labels, 0)
        own = classes_of(labels[z], correction, classes)
        if cell_classes is not None and own is not None:
            cell_classes[z] = own
    return labels, seen, cell_classes


def _check_ids(labels: NDArray[np.int32]) -> None:
    above, below = labels[:-1], labels[1:]
    both = (above > 0) & (below > 0)
    # A few such cells may be different cells that touch.
    if len(np.unique(above[both])) > _FEW and not (above == below)[both].any():
        raise ValueError(
            "no cell has the same id on two planes; a model of stacks learns from cells that keep "
            "their id along Z: give each cell one id"
        )


def _reach(seen: NDArray[np.bool_], margin_px: int) -> tuple[slice, ...]:
    """Return the box around the seen voxels of a stack, with a margin in pixels."""
    lines = (np.flatnonzero(seen.any(other)) for other in ((1, 2), (0, 2), (0, 1)))
    return tuple(slice(max(int(i[0]) - margin_px, 0), int(i[-1]) + 1 + margin_px) for i in lines)
