import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.config import PredictConfig
from napari_unet.io.images import write_image
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import SHIPPED
from napari_unet.segmentation.three_views import _lift, label_stack, stack_scores
from napari_unet.service.evaluation import evaluate

SOON = 60.0
IN_3D = PredictConfig(device="cpu", precision="float32", in_3d=True, diameter_px=None)


def balls(shape=(30, 40, 44), anisotropy=1):
    """Eight bright balls on a dark noisy ground, in two layers, and their labels."""
    depth = shape[0] * anisotropy
    places, labels = np.indices((depth, *shape[1:])), np.zeros((depth, *shape[1:]), np.int32)
    image = np.random.default_rng(0).normal(30, 4, labels.shape)
    for z in (7, 22):
        for y in (10, 30):
            for x in (10, 32):
                near = sum((p - c) ** 2 for p, c in zip(places, (z, y, x), strict=True)) <= 25
                labels[near] = labels.max() + 1
                image[near] += 170
    every = slice(None, None, anisotropy)
    return image[every].clip(0, 255).astype(np.uint8), labels[every]


def found_whole(labels, truth):
    """Whether each cell of the truth is one of the labels."""
    return labels.max() == truth.max() and all(
        (labels[truth == cell] == np.bincount(labels[truth == cell]).argmax()).mean() > 0.8
        for cell in range(1, truth.max() + 1)
    )


@pytest.fixture
def bright(add_model):
    return add_model("bright")


def looks(model, stack, config):
    """Shapes of what the network sees of a stack."""
    loaded, seen = LoadedModel(*load_model(model.path)), []
    scores = loaded.scores

    def spy(plane, *rest):
        seen.append(plane.shape[1:])
        return scores(plane, *rest)

    loaded.scores = spy
    stack_scores(loaded, stack[None], choose("cpu", "float32"), config, lambda f, message: None)
    return seen


def test_each_cell_is_one_body(service, bright):
    image, truth = balls()
    done = service.segment(image, "ZYX", "bright", IN_3D).wait(SOON)
    assert done.is_linked
    assert done.n_cells == len(done.kinds) == 8
    assert done.planes == tuple((z,) for z in range(30))
    assert 8 < done.diameter_px < 12
    assert found_whole(done.labels, truth)


@pytest.mark.slow
def test_times_are_stacks_of_their_own_and_can_be_linked(service, bright):
    image, truth = balls()
    movie = np.stack([image, image])
    apart = service.segment(movie, "TZYX", "bright", IN_3D).wait(SOON)
    assert apart.n_cells == 16
    linked = dataclasses.replace(IN_3D, link="t")
    done = service.segment(movie, "TZYX", "bright", linked).wait(SOON)
    assert done.n_cells == 8
    assert found_whole(done.labels[1], truth)


def test_axes_may_come_in_any_order(service, bright):
    image, _ = balls()
    straight = service.segment(image, "ZYX", "bright", IN_3D).wait(SOON).labels
    turned = service.segment(image.transpose(2, 0, 1), "XZY", "bright", IN_3D).wait(SOON).labels
    np.testing.assert_array_equal(turned.transpose(1, 2, 0), straight)


def test_a_deep_stack_is_seen_from_three_sides_and_a_shallow_one_from_above(bright):
    image, _ = balls()
    above, front, side = (40, 44), (30, 44), (30, 40)
    seen = looks(bright, image, IN_3D)
    assert seen == [above] * (1 + 30) + [front] * 20 + [side] * 22
    assert looks(bright, image[:14], IN_3D) == [above] * (1 + 14)
    # It is as deep as its planes are apart, and its cells as wide as one says.
    apart = dataclasses.replace(IN_3D, anisotropy=2.5)
    assert looks(bright, image[:14], apart)[15] == (35, 44)
    wide = dataclasses.replace(IN_3D, diameter_px=20.0)
    assert looks(bright, image, wide) == [above] * (1 + 30)


@pytest.mark.parametrize("anisotropy", [1, 2, 3])
def test_planes_may_be_apart(service, bright, anisotropy):
    image, truth = balls(shape=(30 // anisotropy, 40, 44), anisotropy=anisotropy)
    config = dataclasses.replace(IN_3D, anisotropy=float(anisotropy))
    done = service.segment(image, "ZYX", "bright", config).wait(SOON)
    assert found_whole(done.labels, truth)
    assert 8 < done.diameter_px < 12


def test_scores_are_the_mean_from_three_sides_as_high_as_from_above(bright):
    loaded = LoadedModel(*load_model(bright.path))
    image = balls()[0]
    compute = choose("cpu", "float32")
    scores = stack_scores(loaded, image[None], compute, IN_3D, lambda f, message: None)
    above = [
        loaded.scores(plane, compute, None, lambda f, message: None)
        for plane in loaded.prepare(image[None]).swapaxes(0, 1)
    ]
    over = np.mean([each.foreground > 0.5 for each in above])
    assert (scores.foreground > 0.5).mean() == pytest.approx(over, abs=1e-3)
    assert scores.foreground.shape == image.shape
    assert scores.classes is scores.distance is None


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0.05, 0.95), share=st.floats(0.02, 0.98))
def test_lifted_scores_keep_their_order_and_so_many_are_over_the_threshold(seed, threshold, share):
    scores = np.random.default_rng(seed).beta(0.5, 0.5, 1000).astype(np.float32)
    lifted = scores.copy()
    _lift(lifted, threshold, share)
    assert (lifted > threshold).mean() == pytest.approx(share, abs=0.003)
    inside = (scores > 1e-3) & (scores < 1 - 1e-3)
    order = np.argsort(scores[inside])
    assert (np.diff(lifted[inside][order]) >= 0).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_scores_that_are_all_on_one_side_stay(share):
    scores = np.linspace(0, 1, 50, dtype=np.float32)
    lifted = scores.copy()
    _lift(lifted, 0.5, share)
    np.testing.assert_array_equal(lifted, scores)


def test_the_smallest_cell_is_a_ball_as_wide_as_the_smallest_disc(add_model):
    model = LoadedModel(*load_model(add_model("m", postprocess={"min_size_px": 50}).path))
    image, _ = balls()
    compute = choose("cpu", "float32")
    scores = stack_scores(model, image[None], compute, IN_3D, lambda f, message: None)
    # Balls have about 515 voxels; a disc of 50 px is as wide as a ball of 266.
    assert label_stack(model, scores, IN_3D).max() == 8
    for least, n_cells in ((100, 8), (5000, 0)):
        config = dataclasses.replace(IN_3D, min_size_px=least)
        assert label_stack(model, scores, config).max() == n_cells
    model.header = dataclasses.replace(model.header, postprocess={"min_size_px": 120})
    assert label_stack(model, scores, IN_3D).max() == 0
    apart = dataclasses.replace(IN_3D, anisotropy=2.0)
    assert label_stack(model, scores, apart).max() == 8


@pytest.mark.slow
def test_the_shipped_model_looks_for_the_size_and_splits_what_touches(service):
    centres, radius, shape = [(24, 24, 18), (24, 24, 37)], 10, (48, 48, 56)
    places = np.indices(shape)
    inside = [
        sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) <= radius**2
        for centre in centres
    ]
    noise = np.random.default_rng(0).normal(20, 4, shape)
    image = (noise + 150 * np.any(inside, 0)).clip(0, 255).astype(np.uint8)
    config = dataclasses.replace(IN_3D, diameter_px="auto")
    done = service.segment(image, "ZYX", str(SHIPPED / "nuclei.safetensors"), config).wait(SOON)
    assert done.n_cells == 2
    first, second = (np.bincount(done.labels[ball]).argmax() for ball in inside)
    assert 0 != first != second != 0


def test_it_tells_the_side_the_plane_and_the_time_that_is_left(service, bright, monkeypatch):
    now = iter(range(0, 10_000, 3))
    monkeypatch.setattr("napari_unet.segmentation.three_views.time.perf_counter", lambda: next(now))
    job = service.segment(balls()[0], "ZYX", "bright", IN_3D)
    told = []
    job.progressed.connect(told.append)
    job.wait(SOON)
    said = [progress.message for progress in told]
    for start in (
        "segmenting, side 1 of 3, plane 1 of 30",
        "segmenting, side 1 of 3, plane 30 of 30",
        "segmenting, side 2 of 3, plane 1 of 20",
        "segmenting, side 3 of 3, plane 22 of 22",
    ):
        assert any(text.startswith(start) for text in said), (start, said)
    left = [text.rpartition(", about ")[2] for text in said if text.endswith(" left")]
    assert len(left) > 50
    assert left[-1] == "5 s left"
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)


def test_of_a_flat_stack_it_tells_that_it_is_seen_from_above_only(service, bright):
    job = service.segment(balls()[0][5:9], "ZYX", "bright", IN_3D)
    told = []
    job.progressed.connect(lambda progress: told.append(progress.message))
    job.wait(SOON)
    assert "segmenting, from above only, plane 4 of 4" in told


def test_it_can_be_cancelled_between_cuts(service, bright):
    job = service.segment(balls()[0], "ZYX", "bright", IN_3D)
    seen = []

    def cancel(progress):
        seen.append(progress.fraction)
        if progress.fraction > 0.3:
            job.cancel()

    job.progressed.connect(cancel)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert max(seen) < 0.9


def test_what_holds_no_stack_is_told_so(service, bright):
    image, _ = balls()
    with pytest.raises(ValueError, match="found in 3D and the image has the axes TYX, no Z; give"):
        service.segment(image, "TYX", "bright", IN_3D)
    box = (slice(0, 20), slice(0, 20))
    with pytest.raises(ValueError, match="in whole stacks, not in a part of a plane; segment"):
        service.segment(image, "ZYX", "bright", IN_3D, [(5,)], box)


def test_it_does_not_go_from_zarr_to_zarr(service, bright, tmp_path):
    job = service.segment_volume(tmp_path / "a.zarr", tmp_path / "b.zarr", "bright", IN_3D)
    with pytest.raises(JobFailed, match="not from zarr to zarr; write the labels as tif, or link"):
        job.wait(SOON)


def test_cells_are_scored_in_3d_at_the_distance_of_the_planes_that_the_file_says(
    service, bright, tmp_path
):
    image, labels = balls(shape=(10, 40, 44), anisotropy=3)
    for name, array in (("image", image), ("labels", labels.astype(np.uint16))):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.tif", array, "ZYX")
    pairs = [(tmp_path / "image" / "a.tif", tmp_path / "labels" / "a.tif")]
    scores = evaluate(service, pairs, "bright", dataclasses.replace(IN_3D, anisotropy=3.0))
    assert scores["n_true"] == 8
    assert scores["ap50"] == 1.0
