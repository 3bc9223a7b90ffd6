"""A fine-tune that is cut short goes on later as if nothing had happened."""

import dataclasses
import json
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.corrections.collection import collection_of
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.learning import cut_short, lesson
from napari_unet.learning.training import NewModel
from napari_unet.models.checkpoint import load_model
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

SOON = 100.0
TINY = NewModel(depth=1, width=4, dropout=0.1, distance=True)
SETTINGS = FinetuneConfig(
    steps=50, seconds=None, tile_px=60, learning_rate=1e-2, warmup_steps=5, device="cpu",
    precision="float32", anchor=0.5,
)  # fmt: skip


def weights(version):
    return load_model(version.path)[0].state_dict()


def same(one, other):
    one, other = weights(one), weights(other)
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def weak(service, blobs):
    config = dataclasses.replace(SETTINGS, steps=2)
    item = annotate(blobs()[0], "YX", blobs()[1])
    return service.train([item], "weak", config, TINY, ["blobs, CC0"]).wait(SOON).model


@pytest.fixture
def given(blobs):
    def given(seed=0):
        image, labels = blobs(seed)
        return dataclasses.replace(annotate(image, "YX", labels), name=f"image {seed}")

    return given


@pytest.fixture
def saved_often(monkeypatch):
    """The state is saved before each step."""
    monkeypatch.setattr(cut_short, "_EVERY_S", 0.0)
    monkeypatch.setattr(cut_short, "_SHARE", 1e9)


@pytest.fixture
def cut(service, saved_often):
    """Cuts a fine-tune short, as closing napari does, after so many steps."""

    def cut(step, annotated, name, config=SETTINGS):
        job = service.finetune(annotated, "weak", config, name)
        losses = []

        def watch(told):
            losses.extend([told.loss] if told.loss is not None else [])
            if len(losses) == step:
                service.servers.local.leave()
                job.cancel()

        job.progressed.connect(watch)
        with pytest.raises(JobCancelled):
            job.wait(SOON)

    return cut


# What a run can be in the middle of: few cells, of which two halves are held out in turn; more
# cells; so many that the best weights are kept; a running mean of the weights; other optimisers.
KINDS = {
    "two folds": (99, 40, {}),
    "one fold": (0, 40, {}),
    "plenty": (0, 10, {}),
    "mean": (0, 10, {"average": 0.9}),
    "momentum": (0, 40, {"optimiser": "sgd", "learning_rate": 1e-4, "batch": 2}),
}


@pytest.mark.parametrize(
    ("kind", "step"), [*((k, 33) for k in KINDS), ("two folds", 1), ("two folds", 15)]
)
def test_it_gives_the_weights_of_one_that_was_not_cut_short(
    service, store, weak, given, cut, monkeypatch, kind, step
):
    few, plenty, changes = KINDS[kind]
    monkeypatch.setattr(lesson, "_FEW", few)
    monkeypatch.setattr(lesson, "_PLENTY", plenty)
    config = dataclasses.replace(SETTINGS, **changes)
    items = [given(seed) for seed in range(3 if plenty == 10 else 1)]
    cut(step, items, "cut", config)
    (found,) = service.cut_short()
    assert (found.name, found.parent, found.step, found.steps) == ("cut", weak, step, 50)
    # In another process, as far as can be.
    other = SegmentationService(ModelStore(store.root))
    steps = []
    job = other.resume("cut")
    job.progressed.connect(lambda told: steps.append(told.loss) if told.loss is not None else None)
    done = job.wait(SOON)
    assert other.cut_short() == []
    assert len(steps) == 50 - step
    expected = other.finetune(items, "weak", config, "whole").wait(SOON)
    assert same(done.model, expected.model)
    assert (done.verdict, done.check, done.steps) == (
        expected.verdict, expected.check, expected.steps,
    )  # fmt: skip
    assert done.model.header.postprocess == expected.model.header.postprocess
    assert done.parent == weak
    other.close()
