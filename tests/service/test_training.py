import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig
from napari_unet.core.tiling import valid_input_px
from napari_unet.service.corrections import Annotated, Correction, annotate
from napari_unet.service.device import Compute
from napari_unet.service.jobs import Job
from napari_unet.service.training import (
    NewModel,
    agreement,
    annotated_planes,
    new_model,
    train,
)

CPU = Compute("cpu", "float32")
CONFIG = FinetuneConfig(steps=2, seconds=None, tile_px=40)


def quiet():
    pass


@pytest.fixture
def model():
    return new_model(NewModel(depth=1, width=2, dropout=0.0), "m", seed=0)


def test_a_new_model_is_what_was_asked_for():
    model = new_model(NewModel(depth=2, width=3, in_channels=3, dropout=0.2), "cells", seed=5)
    assert model.header.name == "cells"
    assert model.header.parent is None
    config = model.network.config
    assert (config.depth, config.width, config.in_channels) == (2, 3, 3)
    assert model.header.architecture["dropout"] == 0.2
    same, other = (new_model(NewModel(depth=2, width=3, in_channels=3), "c", s) for s in (5, 6))
    weight = model.network.head.weight
    assert torch.equal(weight, same.network.head.weight)
    assert not torch.equal(weight, other.network.head.weight)


def test_dense_planes_come_whole(model, blobs):
    image, labels = blobs()
    (plane,) = annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet)
    assert plane.image.shape == (1, *labels.shape)
    assert plane.trusted is None
    np.testing.assert_array_equal(plane.labels, labels)


def test_planes_are_cut_to_what_windows_can_reach(model, blobs):
    image, labels = blobs(shape=(200, 200))
    trusted = np.zeros(labels.shape, bool)
    trusted[100:110, 5:25] = True
    item = annotate(image, "YX", labels, trusted)
    (plane,) = annotated_planes([item], model, CONFIG, quiet)
    assert plane.labels.shape == (10 + 2 * 40, 25 + 40)
    box = (slice(60, 150), slice(0, 65))
    np.testing.assert_array_equal(plane.trusted, trusted[box])
    np.testing.assert_array_equal(plane.image, model.prepare(image[None])[:, box[0], box[1]])
    # The cut is far enough away for a window centred on a trusted pixel.
    assert valid_input_px(CONFIG.tile_px, 1) <= 40


def test_labels_that_nobody_looked_at_are_not_passed_on(model, blobs):
    image, labels = blobs()
    trusted = np.zeros(labels.shape, bool)
    trusted[20:40, 20:40] = True
    (plane,) = annotated_planes([annotate(image, "YX", labels, trusted)], model, CONFIG, quiet)
    assert not plane.labels[~plane.trusted].any()
    np.testing.assert_array_equal(plane.labels[plane.trusted], labels[trusted])
    assert plane.labels.any()


def test_planes_without_a_trusted_pixel_are_skipped(model):
    nothing = np.zeros((30, 30), bool)
    item = Annotated(
        np.ones((2, 30, 30)),
        "ZYX",
        tuple(Correction((z,), np.zeros((30, 30), np.int32), nothing) for z in range(2)),
    )
    assert list(annotated_planes([item], model, CONFIG, quiet)) == []


def test_reading_can_be_stopped_between_planes(model):
    def stop():
        raise KeyboardInterrupt

    item = annotate(np.ones((2, 30, 30)), "ZYX", np.zeros((2, 30, 30), int))
    with pytest.raises(KeyboardInterrupt):
        list(annotated_planes([item], model, CONFIG, stop))


def test_agreement_counts_trusted_pixels_only(blobs, write_model, tmp_path):
    from napari_unet.engine.checkpoint import load_model
    from napari_unet.service.loaded_model import LoadedModel

    write_model(tmp_path / "m.safetensors")
    bright = LoadedModel(*load_model(tmp_path / "m.safetensors"))
    image, labels = blobs()
    found = bright.scores(bright.prepare(image[None]), CPU, None, lambda *args: None) > 0.5
    right = found == (labels > 0)

    def measured(truth, trusted=None):
        item = annotate(image, "YX", truth, trusted)
        planes = list(annotated_planes([item], bright, CONFIG, quiet))
        return agreement(bright, planes, CPU, quiet)

    assert measured(labels) == pytest.approx(right.mean())
    assert measured(labels) > 0.98
    assert measured((labels == 0).astype(np.int32)) == pytest.approx(1 - right.mean())
    half = np.zeros(labels.shape, bool)
    half[:, :37] = True
    # Outside the trusted half everything is wrong, and does not count.
    mixed = np.where(half, labels, labels == 0).astype(np.int32)
    assert measured(mixed, half) == pytest.approx(right[half].mean(), abs=0.01)


def test_training_reports_each_step_and_the_time_left(model, blobs):
    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))
    told = []
    job = Job("train", lambda job: train(job, model, planes, CONFIG, CPU))
    job.progressed.connect(told.append)
    job.run()
    assert job.wait(0) == 2
    assert [p.fraction for p in told] == [0.5, 1.0]
    assert all(p.loss > 0 for p in told)
    assert told[1].message == "step 2, about 0 s left"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_training_without_enough_memory_gives_a_sentence(model, blobs, monkeypatch, error):
    from napari_unet.core.unet import UNet

    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))

    def short(self, image):
        raise error

    monkeypatch.setattr(UNet, "forward", short)
    job = Job("train", lambda job: train(job, model, planes, CONFIG, CPU))
    job.run()
    assert job.error == (
        "there is not enough memory to train with tiles of 40 px on the cpu; "
        "give a smaller tile_px, or another device"
    )
    assert job.cause.__cause__ is error


def test_other_errors_in_training_pass_through(model, blobs, monkeypatch):
    from napari_unet.core.unet import UNet

    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))

    def broken(self, image):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(UNet, "forward", broken)
    job = Job("train", lambda job: train(job, model, planes, CONFIG, CPU))
    job.run()
    assert job.error == "RuntimeError: shapes differ"
