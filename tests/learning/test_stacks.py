import dataclasses

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import Annotated, annotate, painted_planes
from napari_unet.corrections.collection import collection_of
from napari_unet.io.images import write_image
from napari_unet.jobs import FinishReason, JobCancelled, JobFailed
from napari_unet.learning.stacks import annotated_stacks, check_learns
from napari_unet.learning.training import NewModel, new_model
from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import read_header
from napari_unet.models.loaded import LoadedModel
from napari_unet.service.evaluation import evaluate

SOON = 60.0
TINY = NewModel(dims=3, depth=1, width=4, dropout=0.0, anisotropy=2.0)
SETTINGS = FinetuneConfig(
    steps=2, seconds=None, tile_px=40, device="cpu", precision="float32", anchor=0.5
)
EXACT = PredictConfig(device="cpu", precision="float32")


def balls(seed=0, shape=(12, 40, 44)):
    """Bright balls that do not touch on a dark noisy ground, and their labels."""
    rng = np.random.default_rng(seed)
    places, labels = np.indices(shape), np.zeros(shape, np.int32)
    image = rng.normal(30, 4, shape)
    for y in (10, 30):
        for x in (10, 32):
            centre = (5 + rng.uniform(-1, 1), y, x)
            near = sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) <= 25
            labels[near] = labels.max() + 1
            image[near] += 170
    return image.clip(0, 255).astype(np.uint8), labels


def sparse(image, labels):
    trusted = np.zeros(labels.shape, bool)
    trusted[1::4] = True
    return annotate(image, "ZYX", np.where(trusted, labels, 0), trusted)


@pytest.fixture
def bright(add_model):
    return add_model("bright", z_depth=1, anisotropy=1.0)


# Segmenting


def test_cells_of_a_stack_are_objects_in_3d(service, bright):
    image, truth = balls()
    done = service.segment(image, "ZYX", "bright", EXACT).wait(SOON)
    assert done.labels.shape == truth.shape
    assert done.n_cells == truth.max() == 4
    assert done.kinds == ("cell",) * 4
    for cell in range(1, 5):
        inside = done.labels[truth == cell]
        assert np.bincount(inside).argmax() > 0
        assert (inside == np.bincount(inside).argmax()).mean() > 0.9
    assert 7 < done.diameter_px < 13
    assert done.planes == tuple((z,) for z in range(12))
    assert all(0 <= plane < 12 for (plane,), _ in done.places)


def test_asked_for_a_plane_the_whole_stack_that_it_lies_in_is_segmented(service, bright):
    movie = np.stack([balls(seed)[0] for seed in range(3)])
    whole = service.segment(movie, "TZYX", "bright", EXACT).wait(SOON)
    done = service.segment(movie, "TZYX", "bright", EXACT, [(1, 7), (1, 2)]).wait(SOON)
    assert done.planes == tuple((1, z) for z in range(12))
    assert not done.labels[[0, 2]].any()
    np.testing.assert_array_equal(done.labels[1] > 0, whole.labels[1] > 0)
    assert set(np.unique(whole.labels)) == set(range(whole.n_cells + 1)), "unique over all stacks"
    assert not set(np.unique(whole.labels[0])) & set(np.unique(whole.labels[1])) - {0}


def test_axes_may_come_in_any_order(service, bright):
    image, _ = balls()
    straight = service.segment(image, "ZYX", "bright", EXACT).wait(SOON).labels
    turned = service.segment(image.transpose(2, 0, 1), "XZY", "bright", EXACT).wait(SOON).labels
    np.testing.assert_array_equal(turned.transpose(1, 2, 0) > 0, straight > 0)


def test_labels_of_a_stack_do_not_depend_on_the_tile(service, bright):
    image, _ = balls()
    small = dataclasses.replace(EXACT, tile_px=30)
    np.testing.assert_array_equal(
        service.segment(image, "ZYX", "bright", small).wait(SOON).labels,
        service.segment(image, "ZYX", "bright", EXACT).wait(SOON).labels,
    )


@pytest.mark.parametrize("axes", ["YX", "TYX"])
def test_an_image_without_planes_is_told_so(service, bright, axes):
    sentence = f"bright@1 works on stacks and the image has the axes {axes}, no Z; give a stack"
    with pytest.raises(ValueError, match=sentence):
        service.segment(np.zeros((4, 20, 20)[-len(axes) :]), axes, "bright")
    with pytest.raises(ValueError, match="no Z; give a stack"):
        service.finetune([annotate(*_plain(axes))], "bright", SETTINGS)


def _plain(axes):
    shape = (4, 20, 20)[-len(axes) :]
    return np.zeros(shape), axes, np.ones(shape, int)


def test_the_size_of_cells_is_not_to_be_given(service, bright):
    config = dataclasses.replace(EXACT, diameter_px=20.0)
    with pytest.raises(ValueError, match=r"the diameter is 20.0 and a model of stacks does not"):
        service.segment(balls()[0], "ZYX", "bright", config)
    with pytest.raises(ValueError, match="a model of stacks does not resize them"):
        service.guess_diameter(balls()[0], "ZYX", "bright", (0,), EXACT)


def test_the_augmentation_of_stacks_is_not_shown(service, bright):
    with pytest.raises(ValueError, match="whose augmentation cannot be shown"):
        service.preview_augmentation(sparse(*balls()), "bright")


def test_segmenting_a_stack_can_be_cancelled_between_tiles(service, bright):
    job = service.segment(balls()[0], "ZYX", "bright", dataclasses.replace(EXACT, tile_px=24))
    seen = []

    def cancel(progress):
        seen.append(progress.fraction)
        if progress.fraction > 0.1:
            job.cancel()

    job.progressed.connect(cancel)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert job.reason is FinishReason.CANCELLED
    assert max(seen) < 0.9


def test_a_part_of_a_plane_is_not_for_a_model_of_stacks(service, bright):
    box = (slice(0, 20), slice(0, 20))
    with pytest.raises(ValueError, match="works on whole stacks, not on a part of a plane"):
        service.segment(balls()[0], "ZYX", "bright", EXACT, [(5,)], box)


def test_cells_of_stacks_are_linked_through_a_movie(service, bright):
    image, _ = balls()
    movie = np.stack([image, image, np.full_like(image, 30)])
    apart = service.segment(movie, "TZYX", "bright", EXACT).wait(SOON)
    assert apart.is_linked
    assert apart.n_cells == 8
    for link in ("z", "t", "zt"):
        config = dataclasses.replace(EXACT, link=link)
        linked = service.segment(movie, "TZYX", "bright", config).wait(SOON)
        assert linked.n_cells == len(linked.kinds) == (8 if link == "z" else 4)
        np.testing.assert_array_equal(linked.labels > 0, apart.labels > 0)
        if link != "z":
            np.testing.assert_array_equal(linked.labels[0], linked.labels[1])


def test_stacks_are_numbered_in_order_whichever_is_asked_for_first(service, bright):
    movie = np.stack([balls(seed)[0] for seed in range(2)])
    straight = service.segment(movie, "TZYX", "bright", EXACT).wait(SOON)
    turned = service.segment(movie, "TZYX", "bright", EXACT, [(1, 3), (0, 3)]).wait(SOON)
    np.testing.assert_array_equal(turned.labels, straight.labels)


def test_models_of_stacks_do_not_go_from_zarr_to_zarr(service, bright, tmp_path):
    job = service.segment_volume(tmp_path / "a.zarr", tmp_path / "b.zarr", "bright", EXACT)
    with pytest.raises(JobFailed, match="works on stacks in memory, not from zarr to zarr"):
        job.wait(SOON)


def test_models_of_stacks_do_not_learn_on_a_server(bright):
    for model in (bright.header, TINY):
        with pytest.raises(ValueError, match="not learn on the server far; choose this computer"):
            check_learns(model, "far")
    check_learns(NewModel(), "far")


# Training


def test_a_model_of_stacks_is_trained_from_a_few_planes_and_is_one_file(service, store):
    done = service.train([sparse(*balls())], "mine", SETTINGS, TINY, ["balls"]).wait(SOON)
    header = read_header(done.model.path)
    assert header.for_stacks
    assert header.anisotropy == 2.0
    assert header.settings["standardise"] is False
    assert header.architecture["z_depth"] == 0
    network, _ = load_model(done.model.path)
    assert network.config.z_depth == 0
    labels = service.segment(balls(1)[0], "ZYX", "mine", EXACT).wait(SOON).labels
    assert labels.shape == (12, 40, 44)


def test_a_model_of_planes_says_nothing_of_stacks(service, store, blobs):
    image, labels = blobs()
    tiny = NewModel(depth=1, width=4)
    done = service.train([annotate(image, "YX", labels)], "flat", SETTINGS, tiny).wait(SOON)
    content = done.model.path.read_bytes()
    assert not done.model.header.for_stacks
    assert b"z_depth" not in content
    assert b"anisotropy" not in content


@pytest.mark.parametrize(
    ("new", "n_planes", "depths"),
    [
        (NewModel(dims=3, depth=3), None, (3, 3)),
        (NewModel(dims=3, depth=3, anisotropy=2.2), None, (3, 2)),
        (NewModel(dims=3, depth=3, anisotropy=5.0), None, (3, 1)),
        (NewModel(dims=3, depth=3, anisotropy=100.0), None, (3, 0)),
        (NewModel(dims=3, depth=3, anisotropy=0.5), None, (3, 3)),
        (NewModel(dims=3, depth=3), 25, (3, 2)),
        (NewModel(dims=3, depth=3), 5, (3, 0)),
        (NewModel(dims=3, depth=3, z_depth=3), 5, (3, 3)),
        (NewModel(), 5, (4, None)),
    ],
)
def test_the_depth_along_z_follows_from_the_planes(new, n_planes, depths):
    found = new.architecture(n_planes)
    assert (found["depth"], found.get("z_depth")) == depths


@pytest.mark.parametrize(
    ("new", "diameter", "shape"),
    [
        (NewModel(dims=3), None, (2, 16)),
        (NewModel(dims=3), 40.0, (2, 16)),
        (NewModel(dims=3), 41.0, (3, 8)),
        (NewModel(dims=3, width=4), 41.0, (3, 4)),
        (NewModel(dims=3, depth=1), 41.0, (1, 8)),
        (NewModel(), 41.0, (4, 16)),
    ],
)
def test_a_network_of_stacks_sees_as_far_as_cells_reach(new, diameter, shape):
    found = new.architecture(None, diameter)
    assert (found["depth"], found["width"]) == shape


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"dims": 4}, "dims is 4; give 2 for planes or 3 for stacks"),
        ({"anisotropy": 0.0}, "anisotropy is 0.0; give the distance of the planes in pixels"),
    ],
)
def test_a_wrong_new_model_is_named_with_what_is_needed(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        NewModel(**wrong)


def test_what_is_learnt_is_the_painted_planes_and_nothing_else(service):
    image, labels = balls()
    model = new_model(TINY, "m", 0)
    (stack,) = annotated_stacks([sparse(image, labels)], model, SETTINGS, lambda: None)
    assert stack.image.shape == (1, 12, 40, 44)
    assert stack.anisotropy == 2.0
    assert stack.seen is not None
    assert stack.seen[1::4].all()
    assert stack.seen.sum() == 3 * 40 * 44
    np.testing.assert_array_equal(stack.labels[1::4], labels[1::4])
    # The intensities are those of the whole stack.
    np.testing.assert_allclose(stack.image, model.prepare(image[None]))


def test_times_are_stacks_of_their_own_and_large_ones_are_cut_to_what_was_seen(service):
    image = np.zeros((2, 12, 200, 44), np.uint8)
    labels, trusted = np.zeros(image.shape, np.int32), np.zeros(image.shape, bool)
    labels[1, 5, 10:20, 10:20], trusted[1, 5, 5:25, 5:25] = 3, True
    item = annotate(image, "TZYX", labels, trusted)
    model = new_model(TINY, "m", 0)
    (stack,) = annotated_stacks([item], model, SETTINGS, lambda: None)
    assert stack.labels.shape == (12, 65, 44)
    assert (stack.labels == 3).sum() == 100


def test_classes_are_learnt_in_stacks(service, store):
    item = sparse(*balls())
    named = [dataclasses.replace(c, classes={1: "mitotic"}) for c in item.corrections]
    item = dataclasses.replace(item, corrections=tuple(named))
    done = service.train([item], "mine", SETTINGS, TINY).wait(SOON)
    assert done.model.header.classes == ("background", "cell", "mitotic")
    found = service.segment(item.image, "ZYX", "mine", EXACT).wait(SOON)
    assert len(found.kinds) == found.n_cells


def test_cells_with_another_id_on_each_plane_are_refused(service, store):
    image, labels = balls()
    others = labels + 10 * np.arange(12)[:, None, None] * (labels > 0)
    with pytest.raises(JobFailed, match="no cell has the same id on two planes"):
        service.train([annotate(image, "ZYX", others)], "mine", SETTINGS, TINY).wait(SOON)
    assert not store.versions("mine") if "mine" in store.names() else True


def test_planes_without_a_label_may_be_unseen():
    labels = np.zeros((3, 4, 5), int)
    labels[1, 2, 2] = 1
    mask = painted_planes("ZYX", labels)
    assert mask.shape == labels.shape
    assert mask[1].all()
    assert not mask[[0, 2]].any()
    assert painted_planes("YX", labels[1]).all()


# Fine-tuning


def test_a_fine_tune_makes_a_new_version_and_keeps_the_planes(service, store, bright):
    image, labels = balls()
    before = load_model(bright.path)[0].state_dict()
    done = service.finetune([sparse(image, labels)], "bright", SETTINGS).wait(SOON)
    assert done.model.reference == "bright@2"
    assert done.model.header.parent == bright.sha256()
    assert done.verdict.accepted
    assert "not checked" in done.verdict.why
    after = load_model(done.model.path)[0].state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert len(collection_of(store, "bright").entries()) == 3
    assert store.find("bright").version == 2


def test_a_training_of_stacks_can_be_cancelled(service, store):
    config = dataclasses.replace(SETTINGS, steps=10_000)
    job = service.train([sparse(*balls())], "mine", config, TINY)
    job.progressed.connect(lambda progress: job.cancel() if progress.loss is not None else None)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert "mine" not in store.names()


# Scores


def test_stacks_are_scored_as_objects_in_3d(service, bright, tmp_path):
    image, labels = balls()
    for name, array in (("image", image), ("labels", labels.astype(np.uint16))):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.tif", array, "ZYX")
    pairs = [(tmp_path / "image" / "a.tif", tmp_path / "labels" / "a.tif")]
    scores = evaluate(service, pairs, "bright", EXACT)
    assert scores["n_true"] == 4
    assert scores["ap50"] == 1.0


def test_the_default_tile_of_a_stack_holds_a_bounded_number_of_voxels(bright):
    from napari_unet.models.device import Compute

    model = LoadedModel(*load_model(bright.path))
    for planes in (1, 5, 50, 500):
        tile = model._default_tile_px(Compute("cpu", "float32"), (planes, 1000, 1000))
        assert 188 <= tile <= 1020
        assert tile * tile * min(planes + 18, tile) <= 1.01 * 188**3


def test_annotated_stacks_need_a_z(service):
    model = new_model(TINY, "m", 0)
    item = Annotated(np.zeros((5, 5)), "YX", annotate(*_plain("YX")).corrections)
    with pytest.raises(ValueError, match="m works on stacks"):
        list(annotated_stacks([item], model, SETTINGS, lambda: None))
