"""Training on densely labelled images, from random weights or from a model; without a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import Annotated
from napari_unet.jobs import Job
from napari_unet.learning.finetune import Improvement, store_version
from napari_unet.learning.stacks import annotated_stacks, fewest_planes
from napari_unet.learning.training import (
    NewModel,
    annotated_planes,
    cell_diameter,
    learn,
    new_model,
    start_training,
    teach_classes,
)
from napari_unet.learning.validation import Verdict
from napari_unet.models.decoding import postprocess_for, thresholds_for
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion

# Number of training planes on which the thresholds of the decoding are fitted. Each of them costs
# one prediction after the training.
_DECODING_PLANES = 4


def train(
    job: Job[object],
    store: ModelStore,
    annotated: Sequence[Annotated],
    start: ModelVersion | NewModel,
    config: FinetuneConfig,
    name: str,
    trained_on: Sequence[str],
) -> Improvement:
    """Train a model on labelled images, and store it as a new version.

    Parameters
    ----------
    job
        Follows the work; `Job.finish` ends the training and keeps what was learnt.
    store
        Gets the version.
    annotated
        Images and labels.
    start
        The version to go on from, or what a model with random weights is to look like.
    config
        Settings; see `config.train_config`.
    name
        The model that gets the version.
    trained_on
        What the images are, in words, for the header.

    Raises
    ------
    ValueError
        If the images do not suit the model, or there is not enough memory.
    """
    from napari_unet.core.network.weight_standardisation import is_standardised
    from napari_unet.models.checkpoint import load_model

    job.report(0.0, "loading the model")
    parent = start if isinstance(start, ModelVersion) else None
    typical = cell_diameter(annotated)
    if isinstance(start, ModelVersion):
        model = LoadedModel(*load_model(start.path))
        # Weights that were learnt without standardisation use their mean, which it would remove.
        keeps = config.standardise and is_standardised(model.network)
        config = replace(config, standardise=keeps)
    else:
        model = new_model(start, name, config.seed, fewest_planes(annotated), typical)
    if model.header.for_stacks:
        # Standardised weights were not tried on 3D convolutions.
        config = replace(config, standardise=False)
    corrections = [correction for item in annotated for correction in item.corrections]
    model = teach_classes(model, {k for c in corrections for k in c.classes.values()})
    zoom = model.zoom(config.diameter_px)
    job.report(0.0, "reading images")
    read = annotated_stacks if model.header.for_stacks else annotated_planes
    planes = list(read(annotated, model, config, job.check, zoom))
    compute = choose(config.device, config.precision)
    trainer = start_training(model, planes, config, compute)
    steps = learn(job, trainer)
    # Without a given diameter the cells may be of any size: the decoding is not fitted to one.
    suited = postprocess_for(planes, model, zoom) if zoom != 1 else model.header.postprocess
    if model.network.config.distance and not model.header.for_stacks:
        found = thresholds_for(model, planes, compute, job.check, _DECODING_PLANES)
        suited = {**suited, "peak_threshold": found.get("peak_threshold")}
    header = replace(
        model.header,
        parent=parent.sha256() if parent else None,
        zoom=zoom,
        postprocess=suited,
        diameter_px=config.diameter_px or (model.header.diameter_px if parent else typical),
        trained_on=(*model.header.trained_on, *trained_on),
        scores={},
    )
    job.check()
    added = store_version(store, model, header, name, config, steps, activate=True)
    verdict = Verdict(True, "trained on all that was given, without a check")
    return Improvement(added, parent, verdict, None, None, steps, compute.describe())
