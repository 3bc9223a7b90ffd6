import dataclasses
import re

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import Annotated, Correction, annotate
from napari_unet.jobs import Job
from napari_unet.learning.training import (
    NewModel,
    annotated_planes,
    cell_diameter,
    learn,
    new_model,
    reach,
    size_for,
    start_training,
    teach_classes,
)
from napari_unet.models.device import Compute

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
    assert plane.seen is None
    np.testing.assert_array_equal(plane.labels, labels)


def test_planes_are_cut_to_the_surroundings_of_seen_pixels(model, blobs):
    image, labels = blobs(shape=(540, 300))
    trusted = np.zeros(labels.shape, bool)
    trusted[260:270, 5:25] = True
    item = annotate(image, "YX", labels, trusted)
    (plane,) = annotated_planes([item], model, CONFIG, quiet)
    assert plane.labels.shape == (10 + 2 * 236, 25 + 236)
    box = (slice(24, 506), slice(0, 261))
    np.testing.assert_array_equal(plane.seen, trusted[box])
    np.testing.assert_array_equal(plane.image, model.prepare(image[None])[:, box[0], box[1]])
    (larger,) = annotated_planes([item], model, dataclasses.replace(CONFIG, tile_px=250), quiet)
    assert larger.labels.shape == (10 + 2 * 250, 25 + 250)


def test_labels_that_nobody_looked_at_are_not_passed_on(model, blobs):
    image, labels = blobs()
    trusted = np.zeros(labels.shape, bool)
    trusted[20:40, 20:40] = True
    (plane,) = annotated_planes([annotate(image, "YX", labels, trusted)], model, CONFIG, quiet)
    assert not plane.labels[~plane.seen].any()
    np.testing.assert_array_equal(plane.labels[plane.seen], labels[trusted])
    assert plane.labels.any()


def test_planes_without_a_seen_pixel_are_skipped(model):
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


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_planes_come_at_the_size_that_the_network_sees(model, blobs, zoom):
    image, labels = blobs(shape=(72, 80))
    (plane,) = annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet, zoom)
    shape = (round(72 * zoom), round(80 * zoom))
    assert plane.labels.shape == shape
    assert plane.image.shape == (1, *shape)
    assert (
        plane.image[0][plane.labels > 0].mean() > 0.8 > plane.image[0][plane.labels == 0].max() / 2
    )
    assert set(np.unique(plane.labels)) == set(np.unique(labels))


def test_at_another_size_windows_reach_further_in_the_image(model):
    trusted = np.zeros((1000, 1000), bool)
    trusted[500:520, 500:520] = True
    item = annotate(np.ones((1000, 1000)), "YX", np.ones((1000, 1000), int), trusted)
    (plane,) = annotated_planes([item], model, CONFIG, quiet, 0.5)
    assert plane.labels.shape == ((20 + 2 * 472) / 2, (20 + 2 * 472) / 2)
    assert plane.seen.sum() == 10 * 10
    assert not plane.labels[~plane.seen].any()


def test_a_piece_is_scaled_by_the_statistics_of_its_image(model, blobs):
    from napari_unet.core.intensity import measure

    image, labels = blobs()
    whole = model.prepare(image[None])
    item = annotate(image[:30, :30], "YX", labels[:30, :30])
    item = dataclasses.replace(item, statistics=measure(image[None]))
    (plane,) = annotated_planes([item], model, CONFIG, quiet)
    np.testing.assert_array_equal(plane.image, whole[:, :30, :30])


def test_classes_are_those_of_the_models_classes(model, blobs):
    image, labels = blobs()
    correction = Correction((), labels, None, {2: "debris", 3: "unheard of", 999: "debris"})
    known = teach_classes(model, ["debris"])
    (plane,) = annotated_planes([Annotated(image, "YX", (correction,))], known, CONFIG, quiet)
    assert set(np.unique(plane.classes[labels == 2])) == {2}
    for other in (1, 3, 4):
        assert set(np.unique(plane.classes[labels == other])) == {1}
    assert not plane.classes[labels == 0].any()


def test_new_classes_are_taught_in_order_of_their_names(model):
    same = teach_classes(model, ["cell", "cell"])
    assert same is model
    known = teach_classes(model, {"mitosis", "debris", "cell"})
    assert known.header.classes == ("background", "cell", "debris", "mitosis")
    assert known.network.config.n_classes == 4
    assert model.network.config.n_classes == 2
    assert teach_classes(known, ["debris"]) is known


def test_the_diameter_is_that_of_a_typical_cell_seen_as_a_whole():
    rows, columns = np.indices((100, 300))
    labels = np.zeros((100, 300), np.int32)
    for cell, (x, radius) in enumerate([(50, 19), (120, 20), (220, 40)], start=1):
        labels[(rows - 50) ** 2 + (columns - x) ** 2 <= radius**2] = cell
    image = np.zeros(labels.shape)
    seen = columns < 220  # cuts the largest
    assert cell_diameter([annotate(image, "YX", labels, seen)]) == pytest.approx(40, abs=0.5)
    # Specks, and there are more of them than cells.
    labels[90:96:2, :20:2] = np.arange(10, 40).reshape(3, 10)
    assert cell_diameter([annotate(image, "YX", labels, seen)]) == pytest.approx(40, abs=0.5)
    assert cell_diameter([annotate(image, "YX", np.zeros_like(labels))]) is None
    assert cell_diameter([]) is None


def discs(*diameters_px, unseen=()):
    """An image with a row of corrected cells, and one of cells that nobody looked at."""
    labels = np.zeros((2, 80 * max(len(diameters_px), len(unseen)), 80), np.int32)
    rows, columns = np.indices((80, 80)) - 39.5
    for row, (half, each) in enumerate(zip(labels, (diameters_px, unseen), strict=True)):
        for place, size in enumerate(each):
            cell = 2 * np.hypot(rows, columns) <= size
            half[80 * place : 80 * (place + 1)][cell] = 2 * place + row + 1
    plane = np.concatenate(labels, axis=1)
    trusted = np.indices(plane.shape)[1] < 80
    return annotate(np.zeros(plane.shape), "YX", plane, trusted)


@pytest.mark.parametrize(
    ("known", "given", "asked", "expected"),
    [
        (None, discs(), None, (None, 1)),
        # Of the one size that it is for, and of a mixture.
        (20.0, discs(30, 30, 30), None, (20, 1)),
        (20.0, discs(60, 60, 60), None, (60, 1 / 3)),
        (20.0, discs(10, 10, 10), None, (10, 2)),
        (None, discs(50, 50, 50), None, (None, 1)),
        (None, discs(72, 72, 72), None, (72, 1 / 3)),
        (None, discs(*(48,) * 39), None, (None, 1)),
        (None, discs(*(48,) * 40), None, (48, 1 / 2)),
        # Few tell nothing, and neither do specks among cells.
        (20.0, discs(60, 60), None, (20, 1)),
        (20.0, discs(10, 10, 10, unseen=(20,) * 5), None, (20, 1)),
        (20.0, discs(10, 10, 10, unseen=(70,) * 5), None, (20, 1)),
        (None, discs(8, 8, 8, unseen=(24,) * 5), None, (None, 1)),
        # Pieces of large cells do not keep them large.
        (20.0, discs(60, 60, 60, unseen=(20,) * 20), None, (60, 1 / 3)),
        # Many found cells that are smaller do: the largest are corrected first.
        (20.0, discs(60, 60, 60, unseen=(20,) * 40), None, (20, 1)),
        (20.0, discs(60), 25.0, (25, 0.8)),
        (None, discs(), 30.0, (30, 0.8)),
    ],
)
def test_images_are_resized_where_their_cells_differ_much_or_it_was_asked(
    model, known, given, asked, expected
):
    header = dataclasses.replace(model.header, diameter_px=known)
    diameter, zoom = size_for(header, [given], asked)
    assert (diameter or 0) == pytest.approx(expected[0] or 0, rel=0.05)
    assert zoom == pytest.approx(expected[1], rel=0.05)


def test_reach_is_the_box_of_what_was_seen_and_a_margin():
    trusted = np.zeros((50, 60), bool)
    trusted[20:25, 2:9] = True
    labels = np.zeros((50, 60), np.int32)
    assert reach(Correction((), labels, trusted), 10) == (slice(10, 35), slice(0, 19))
    assert reach(Correction((), labels), 10) == (slice(None), slice(None))


def test_training_reports_each_step_and_the_time_left(model, blobs):
    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))
    told = []
    job = Job("train", lambda job: learn(job, start_training(model, planes, CONFIG, CPU)))
    job.progressed.connect(told.append)
    job.run()
    assert job.wait(0) == 2
    assert [p.fraction for p in told] == [0.0, 0.5, 1.0]
    assert all(p.loss > 0 for p in told[1:])
    words = r"Training 0:\d\d( of about 0:\d\d)?, step 2 of 2(, measuring .*)?"
    assert re.fullmatch(words, told[2].message)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_training_without_enough_memory_gives_a_sentence(model, blobs, monkeypatch, error):
    from napari_unet.core.network.unet import UNet

    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))

    def short(self, image, dropout=None):
        raise error

    monkeypatch.setattr(UNet, "forward", short)
    job = Job("train", lambda job: learn(job, start_training(model, planes, CONFIG, CPU)))
    job.run()
    assert job.error == (
        "there is not enough memory to train with tiles of 40 px; "
        "give a smaller tile_px, or another device"
    )
    assert job.cause.__cause__ is error


def test_training_on_a_gpu_that_lacks_an_operation_gives_a_sentence(model, blobs, monkeypatch):
    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))

    def lacking(self, *args):
        self.network.to("meta")  # stands in for an Apple GPU
        raise NotImplementedError("not currently implemented for the MPS device")

    monkeypatch.setattr("napari_unet.engine.trainer.Trainer.step", lacking)
    job = Job("train", lambda job: learn(job, start_training(model, planes, CONFIG, CPU)))
    job.run()
    assert job.error == (
        "the device meta lacks an operation that training needs; choose the device cpu"
    )


def test_other_errors_in_training_pass_through(model, blobs, monkeypatch):
    from napari_unet.core.network.unet import UNet

    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))

    def broken(self, image, dropout=None):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(UNet, "forward", broken)
    job = Job("train", lambda job: learn(job, start_training(model, planes, CONFIG, CPU)))
    job.run()
    assert job.error == "RuntimeError: shapes differ"


def test_training_ends_when_it_is_asked_to_with_one_step_at_least(model, blobs):
    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))
    endless = dataclasses.replace(CONFIG, steps=10**6)
    job = Job("train", lambda job: learn(job, start_training(model, planes, endless, CPU)))
    job.finish()
    job.run()
    assert job.wait(0) == 1
    assert not model.network.training


def test_training_ends_when_its_listener_has_enough(model, blobs):
    image, labels = blobs()
    planes = list(annotated_planes([annotate(image, "YX", labels)], model, CONFIG, quiet))
    endless = dataclasses.replace(CONFIG, steps=10**6)

    def work(job):
        return learn(job, start_training(model, planes, endless, CPU), lambda r: r.step < 3)

    job = Job("train", work)
    job.run()
    assert job.wait(0) == 3
