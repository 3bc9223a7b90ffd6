"""A fine-tune from beginning to end: collection, lesson, verdict, new version; and repeating it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.corrections.annotations import Annotated
from napari_unet.corrections.collection import Collection, Entry, collection_of
from napari_unet.jobs import Job
from napari_unet.learning.crops import with_tiles
from napari_unet.learning.cut_short import Saved, Saving, read_cut_short
from napari_unet.learning.lesson import Lesson, prepare
from napari_unet.learning.live_view import LiveView, Slip, View, find_slips
from napari_unet.learning.run import Run
from napari_unet.learning.training import size_for, teach_classes
from napari_unet.learning.validation import Check, Verdict
from napari_unet.models.decoding import postprocess_for
from napari_unet.models.device import choose
from napari_unet.models.header import ModelFileError, ModelHeader
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Improvement:
    """The result of a fine-tune or a training.

    Attributes
    ----------
    model
        The new version.
    parent
        The version that it was fine-tuned from; None if it was trained from scratch.
    verdict
        Whether the new version was accepted, so that the model's name means it, and why.
    check, replay
        Scores before and after, on places corrected now that were held out, and on places
        corrected earlier; None if there was nothing to check.
    steps
        Optimiser steps taken.
    compute
        The device and number format that were used, in words.
    slips
        Painted places that the new model contradicts and that may be mistakes of the user.
    """

    model: ModelVersion
    parent: ModelVersion | None
    verdict: Verdict
    check: Check | None
    replay: Check | None
    steps: int
    compute: str
    slips: tuple[Slip, ...] = ()


@dataclass(frozen=True)
class Kept:
    """The stored corrections that a fine-tune learns from, and the size of their cells.

    Attributes
    ----------
    collection
        All corrections of the model.
    diameter_px
        Diameter of the cells that the new version is for, in pixels; None for a mixture of sizes.
    zoom
        Factor by which the images are enlarged for the network.
    """

    collection: Collection
    diameter_px: float | None
    zoom: float


def improve(
    job: Job[object],
    store: ModelStore,
    annotated: Sequence[Annotated],
    parent: ModelVersion,
    config: FinetuneConfig,
    name: str,
    watch: Callable[[], View | None] = lambda: None,
    saving: Saving | None = None,
) -> Improvement:
    """Fine-tune a model on all its corrections, and store the new version.

    Parameters
    ----------
    job
        Receives the progress; `Job.finish` ends the training and keeps what was learnt.
    store
        The store that holds the corrections, and to which the new version is added.
    annotated
        The new corrections, which are added to the collection of `name`.
    parent
        The version to begin with.
    config
        Settings.
    name
        Name of the model that gets the new version.
    watch
        Called every few seconds; returns the part of an image that the user looks at, or None.
    saving
        Saves the state of the training now and then, so that `resume` can go on.
    """
    kept = keep(job, store, annotated, parent, config, name)
    return teach(job, store, kept, annotated, parent, config, name, watch, saving)


def resume(job: Job[object], store: ModelStore, name: str, saving: Saving) -> Improvement:
    """Go on with a fine-tune of this model that was cut short, and store the new version.

    On a CPU, with a budget in steps, the weights are those that it would have got without that; of
    a budget in seconds, the time that was used up counts. No slips are looked for.

    Raises
    ------
    ValueError
        If it cannot go on; see `cut_short.read_cut_short`.
    """
    saved = read_cut_short(store, name)
    header = saved.header
    kept = Kept(collection_of(store, name), header.diameter_px, header.zoom)
    parent, config = saved.about.parent, _config_of(header)
    return teach(job, store, kept, (), parent, config, name, saving=saving, saved=saved)


def keep(
    job: Job[object],
    store: ModelStore,
    annotated: Sequence[Annotated],
    parent: ModelVersion,
    config: FinetuneConfig,
    name: str,
) -> Kept:
    """Add the new corrections to the collection of `name`: the first part of `improve`."""
    diameter, zoom = size_for(parent.header, annotated, config.diameter_px)
    job.report(0.0, "keeping the corrections")
    collection = collection_of(store, name)
    if parent.name != name:
        _inherit(collection_of(store, parent.name), collection)
    margin = math.ceil(config.reach_px / zoom)
    for item in annotated:
        collection.add(item, margin)
    return Kept(collection, diameter, zoom)


def teach(
    job: Job[object],
    store: ModelStore,
    kept: Kept,
    annotated: Sequence[Annotated],
    parent: ModelVersion,
    config: FinetuneConfig,
    name: str,
    watch: Callable[[], View | None] = lambda: None,
    saving: Saving | None = None,
    saved: Saved | None = None,
) -> Improvement:
    """Train on the stored corrections, and add the new version: the second part of `improve`.

    It changes no collection. For parameters see `improve`; `kept` is what `keep` returned, and
    `saved` the state with which to go on.
    """
    from napari_unet.models.checkpoint import load_model

    collection, diameter, zoom = kept.collection, kept.diameter_px, kept.zoom
    job.report(0.0, "loading the model")
    model = LoadedModel(*load_model(parent.path))
    entries = collection.entries()
    model = teach_classes(model, _classes(entries))
    numbers = count(1)

    def reading() -> None:
        job.report(0.0, f"reading image {next(numbers)} of {len(entries)}")

    lesson = prepare(model, collection, entries, config, zoom, reading)
    job.report(0.0, "looking at what the old model finds")
    _adapt_decoding(model, lesson, zoom)
    compute = choose(config.device, config.precision)
    config = with_tiles(config, model, lesson.planes, compute.device)

    live = LiveView(model, compute, zoom, job.check)

    def look() -> None:
        view = watch()
        if view is not None:
            shown = live.look(view)
            job.report(run.fraction, "this is how it sees the view now", preview=shown)

    begun = replace(
        model.header,
        name=name,
        parent=parent.sha256(),
        diameter_px=diameter,
        zoom=zoom,
        trained_on=(*model.header.trained_on, _describe(entries)),
        corrections={entry.key: entry.sha256 for entry in entries},
        settings=asdict(config),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if config.workers:
        # Samples that other processes have drawn in advance cannot be saved.
        saving = None
    before_step = saving.save_if_due if saving else lambda run: None
    run = Run(job, model, parent.header, lesson, config, compute, look, before_step=before_step)
    if saved is not None:
        saved.restore(run)
    if saving is not None:
        saving.begin(begun, parent)
    run.learn()
    verdict, check, replay = run.verdict()
    used = replace(config, steps=run.planned, seconds=None, **asdict(compute))
    # The run has chosen other settings of the decoding.
    decoding = model.header.postprocess
    scores = _scores(check, replay)
    header = replace(begun, postprocess=decoding, plans=run.plans, scores=scores)
    added = store_version(store, model, header, name, used, run.steps, activate=verdict.accepted)
    sized = replace(config, diameter_px=diameter)
    slips = tuple(find_slips(model, annotated, sized, compute, zoom, job.check))
    return Improvement(added, parent, verdict, check, replay, run.steps, compute.describe(), slips)


def store_version(
    store: ModelStore,
    model: LoadedModel,
    header: ModelHeader,
    name: str,
    config: FinetuneConfig,
    steps: int,
    *,
    activate: bool,
) -> ModelVersion:
    """Add a trained model to the store as a new version of `name`.

    The name, architecture, settings, seed, steps and time of creation in `header` are replaced.
    """
    from napari_unet.models.checkpoint import architecture, save_model

    header = replace(
        header,
        name=name,
        architecture=architecture(model.network),
        settings=asdict(config),
        seed=config.seed,
        steps=steps,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return store.add(name, lambda path: save_model(path, model.network, header), activate=activate)


def reproduce(job: Job[object], store: ModelStore, version: ModelVersion) -> bool:
    """Train a version again from its parent, corrections, settings and seed; compare the weights.

    Returns whether the weights are the same, bit for bit. They are on a CPU, with the same release
    of torch and the same number of threads.

    Raises
    ------
    ValueError
        If the version was not fine-tuned from corrections, or if its parent or a correction is
        missing or was changed.
    """
    import torch

    from napari_unet.models.checkpoint import load_model

    header = version.header
    parent = store.parent(version)
    if parent is None or not header.corrections:
        raise ModelFileError(
            f"{version.reference} cannot be trained again: it was not fine-tuned from corrections, "
            "or its parent is not here; choose another version, or import its parent"
        )
    config = _config_of(header)
    collection = collection_of(store, header.name)
    entries = [collection.find(key) for key in header.corrections]
    for entry in entries:
        if entry.sha256 != header.corrections[entry.key]:
            raise ValueError(
                f"the correction {entry.key!r} is not what {version.reference} learnt from; "
                "put its files back"
            )
    job.report(0.0, "reading images")
    model = teach_classes(LoadedModel(*load_model(parent.path)), _classes(entries))
    lesson = prepare(model, collection, entries, config, header.zoom, job.check)
    _adapt_decoding(model, lesson, header.zoom)
    compute = choose(config.device, config.precision)
    Run(job, model, parent.header, lesson, config, compute, again=header).learn()
    stored = load_model(version.path)[0].state_dict()
    again = model.network.cpu().state_dict()
    return all(torch.equal(stored[key], again[key]) for key in stored)


def _adapt_decoding(model: LoadedModel, lesson: Lesson, zoom: float) -> None:
    """Set a model's post-processing settings to those that suit the cells of a lesson."""
    suited = postprocess_for(lesson.planes, model, zoom)
    model.header = replace(model.header, postprocess=suited)


def _config_of(header: ModelHeader) -> FinetuneConfig:
    """Return the settings that a header names."""
    settings = dict(header.settings)
    return FinetuneConfig(**{**settings, "augment": AugmentConfig(**settings["augment"])})


def _inherit(parents: Collection, own: Collection) -> None:
    if parents.entries() and not own.entries():
        parents.export(own.folder)


def _classes(entries: Sequence[Entry]) -> set[str]:
    return {name for entry in entries for name in entry.classes}


def _describe(entries: Sequence[Entry]) -> str:
    cells, planes = sum(entry.n_cells for entry in entries), len(entries)
    return f"{cells} corrected cells on {planes} plane{'s' if planes > 1 else ''}"


def _scores(check: Check | None, replay: Check | None) -> dict[str, float]:
    named = {"held_out": check, "replay": replay}
    return {
        f"{name}_{end}": getattr(each, end)
        for name, each in named.items()
        if each is not None
        for end in ("before", "after")
    }
