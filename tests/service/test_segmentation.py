import dataclasses
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.config import AugmentConfig, FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import Annotated, Correction, annotate
from napari_unet.corrections.collection import collection_of
from napari_unet.jobs import FinishReason, JobCancelled, JobFailed
from napari_unet.learning.training import NewModel
from napari_unet.models import store as model_store
from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import ModelFileError, read_header
from napari_unet.models.store import SHIPPED, ModelStore
from napari_unet.segmentation import looking
from napari_unet.service.segmentation import SegmentationService

SOON = 60.0
TINY = NewModel(depth=1, width=4, dropout=0.0, distance=False)
SETTINGS = FinetuneConfig(
    steps=2, seconds=None, tile_px=60, learning_rate=1e-2, warmup_steps=5, device="cpu",
    precision="float32", anchor=0.5,
)  # fmt: skip
EXACT = PredictConfig(device="cpu", precision="float32")
# Nothing of the image is looked at beforehand.
NATIVE = dataclasses.replace(EXACT, diameter_px=None, channel=None)


class Recording:
    """An array-like that only gives what is asked for, and remembers it."""

    def __init__(self, array):
        self.array, self.shape, self.asked = array, array.shape, []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.array[key]


def weights(version):
    network, _ = load_model(version.path)
    return torch.cat([p.flatten() for p in network.state_dict().values()])


@pytest.fixture
def run(service):
    """Segments, and gives the labels."""

    def run(image, axes="YX", model="bright", config=EXACT, planes=None):
        return service.segment(image, axes, model, config, planes).wait(SOON).labels

    return run


@pytest.fixture
def bright(add_model):
    return add_model("bright")


# Segmenting


def test_cells_are_found(service, bright, blobs):
    image, truth = blobs()
    done = service.segment(image, "YX", "bright").wait(SOON)
    assert done.labels.dtype == np.int32
    assert done.labels.shape == truth.shape
    assert done.n_cells == truth.max() == done.labels.max()
    assert 9 < done.diameter_px < 15
    assert ((done.labels > 0) == (truth > 0)).mean() > 0.99
    assert done.planes == ((),)
    assert done.model == bright
    assert done.compute.endswith(("float32", "bfloat16"))


def test_each_cell_has_a_kind(service, bright, blobs):
    done = service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)
    assert done.kinds == ("cell",) * done.n_cells
    stack = np.stack([blobs(seed)[0] for seed in range(2)])
    done = service.segment(stack, "ZYX", "bright", EXACT).wait(SOON)
    assert len(done.kinds) == done.n_cells == done.labels.max()


def test_places_worth_a_look_come_best_first_with_their_plane(service, add_model, blobs):
    add_model("bright")
    stack = np.stack([blobs()[0]] * 2)
    # Half as bright as a cell, on the second plane only.
    stack[1, 40:52, 55:67] = 115
    done = service.segment(stack, "TYX", "bright", EXACT).wait(SOON)
    weights = [place.weight for _, place in done.places]
    assert weights == sorted(weights, reverse=True)
    index, place = done.places[0]
    assert index == (1,)
    assert (place.y, place.x) == (pytest.approx(46, abs=8), pytest.approx(61, abs=8))


def test_the_diameter_may_be_told(service, add_model, blobs):
    add_model("small", diameter_px=24.0)
    grey, truth = blobs(shape=(40, 50))
    large = np.kron(grey, np.ones((4, 4), np.uint8))
    config = dataclasses.replace(EXACT, diameter_px=96.0)
    sized = service.segment(large, "YX", "small", config).wait(SOON)
    assert sized.labels.shape == large.shape
    assert sized.n_cells == truth.max()
    expected = np.kron(truth > 0, np.ones((4, 4), bool))
    assert ((sized.labels > 0) == expected).mean() > 0.95
    # The specks that it finds in a quarter of the image are too small for it, seen so.
    speck = np.zeros((200, 200), np.uint8)
    speck[100:112, 100:112] = 200
    assert service.segment(speck, "YX", "small", EXACT).wait(SOON).n_cells == 1
    assert service.segment(speck, "YX", "small", config).wait(SOON).n_cells == 0


def test_nothing_is_found_in_the_dark(service, bright):
    done = service.segment(np.zeros((40, 50), np.uint8), "YX", "bright").wait(SOON)
    assert not done.labels.any()
    assert (done.n_cells, done.diameter_px) == (0, 0)


@pytest.mark.parametrize("depth", [1, 2])
def test_labels_do_not_depend_on_the_tile(run, add_model, blobs, depth):
    add_model("wide", depth=depth, width=3, noise=0.2, postprocess={"min_size_px": 1})
    rng = np.random.default_rng(3)
    image = blobs(shape=(101, 77))[0] + rng.normal(0, 40, (101, 77))  # ragged outlines
    whole = run(image, model="wide")
    assert whole.max() > 10
    for tile in (48, 53, 76, 100, 1000):
        config = dataclasses.replace(EXACT, tile_px=tile)
        np.testing.assert_array_equal(run(image, model="wide", config=config), whole)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    chunks=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["u1", "<u2", ">i4", "i8", "f4", ">f8"]),
    tile_px=st.integers(22, 60),
    seed=st.integers(0, 99),
)
def test_labels_depend_neither_on_the_tile_nor_on_the_chunks(
    run, bright, shape, chunks, dtype, tile_px, seed
):
    da = pytest.importorskip("dask.array")
    rows, columns = np.indices(shape)
    image = 60 + 60 * np.sin(rows / 4) * np.sin(columns / 5)
    image = (image + np.random.default_rng(seed).uniform(0, 5, shape)).astype(dtype)
    whole = run(image, config=NATIVE)
    tiled = dataclasses.replace(NATIVE, tile_px=tile_px)
    np.testing.assert_array_equal(run(da.from_array(image, chunks), config=tiled), whole)


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "TZYX", "ZTYX", "YXZ", "YZX", "XY"])
def test_stacks_are_their_planes_one_by_one(run, bright, blobs, axes):
    counts = {"T": 2, "Z": 3}
    others = [axis for axis in axes if axis in "TZ"]
    shape = tuple(counts[axis] for axis in others)
    stack = np.zeros((*shape, 50, 60), np.uint8)
    for seed, index in enumerate(np.ndindex(*shape)):
        stack[index] = blobs(seed, (50, 60))[0]
    order = [[*others, "Y", "X"].index(axis) for axis in axes]
    labels = run(stack.transpose(order), axes)
    assert labels.shape == stack.transpose(order).shape
    labels = labels.transpose(np.argsort(order))
    seen = set()
    for index in np.ndindex(*shape):
        alone = run(stack[index])
        np.testing.assert_array_equal(labels[index] > 0, alone > 0)
        ids = set(np.unique(labels[index])) - {0}
        assert len(ids) == alone.max()
        assert not ids & seen
        seen |= ids
    assert seen == set(range(1, len(seen) + 1))


@pytest.mark.parametrize("axes", ["YXC", "ZYXC", "TZYXC"])
def test_colours_are_last(run, bright, blobs, axes):
    grey = blobs(0, (50, 60))[0]
    colours = np.stack([grey] * 3)
    rest = [axis for axis in axes if axis in "TZ"]
    array = colours.reshape([1] * len(rest) + [3, 50, 60])
    order = [[*rest, "C", "Y", "X"].index(axis) for axis in axes]
    labels = run(array.transpose(order), axes)
    assert labels.shape == tuple(1 if axis in "TZ" else {"Y": 50, "X": 60}[axis]
                                 for axis in axes if axis != "C")  # fmt: skip
    np.testing.assert_array_equal(labels.squeeze() > 0, run(grey) > 0)


@pytest.mark.parametrize("axes", ["CYX", "YCX", "ZCYX"])
def test_other_channels_are_separate(service, add_model, axes):
    add_model("colour", in_channels=3)
    image = np.zeros([3 if axis == "C" else 40 for axis in axes], np.uint8)
    with pytest.raises(ValueError, match=r"3 separate channels; .*PredictConfig\(channel=0\)"):
        service.segment(image, axes, "colour")


def test_a_model_of_colours_takes_grey_and_alpha(run, add_model, blobs):
    add_model("colour", in_channels=3)
    grey = blobs()[0]
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)
    np.testing.assert_array_equal(run(rgba, "YXC", "colour") > 0, run(grey, "YX", "colour") > 0)


def test_only_the_planes_asked_for_are_read(service, bright, blobs):
    stack = np.stack([[blobs(seed, (40, 50))[0] for seed in range(3)]] * 2)
    image = Recording(stack)
    done = service.segment(image, "TZYX", "bright", NATIVE, [(1, 2), (0, 1)]).wait(SOON)
    assert image.asked == [
        (1, 2, slice(None), slice(None)),
        (0, 1, slice(None), slice(None)),
    ]
    assert done.planes == ((1, 2), (0, 1))
    found = {index for index in np.ndindex(2, 3) if done.labels[index].any()}
    assert found == {(1, 2), (0, 1)}


def test_progress_goes_from_0_to_the_end_and_counts_planes(service, bright, blobs):
    stack, told = np.stack([blobs()[0]] * 2), []
    hold = threading.Event()
    service._runner.submit("before", lambda job: hold.wait(SOON))
    config = dataclasses.replace(NATIVE, tile_px=40)
    job = service.segment(stack, "ZYX", "bright", config)
    job.progressed.connect(told.append)
    hold.set()
    job.wait(SOON)
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 0.9 < fractions[-1] <= 1
    assert told[0].message == "loading the model"
    assert {p.message for p in told[1:]} == {
        f"{what}, plane {number} of 2"
        for what in ("reading", "segmenting", "labelling cells")
        for number in (1, 2)
    }


def test_cancel_acts_within_one_tile(service, bright, blobs):
    hold, tiles = threading.Event(), []
    service._runner.submit("before", lambda job: hold.wait(SOON))
    config = dataclasses.replace(NATIVE, tile_px=22)
    job = service.segment(blobs(shape=(200, 200))[0], "YX", "bright", config)

    def listener(progress):
        if progress.message == "segmenting":
            tiles.append(progress)
            if len(tiles) == 5:
                job.cancel()

    job.progressed.connect(listener)
    hold.set()
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert len(tiles) == 5
    assert job.result is None


def test_what_cannot_be_segmented_is_told_before_the_job(service, bright):
    image = np.zeros((5, 40, 50))
    with pytest.raises(ValueError, match="name 2 axes and the image has 3"):
        service.segment(image, "YX", "bright")
    with pytest.raises(ValueError, match="the image has 2 separate channels"):
        service.segment(np.ones((2, 40, 50)), "CYX", "bright")
    with pytest.raises(ValueError, match="the image is empty, 0 x 50"):
        service.segment(np.ones((0, 50)), "YX", "bright")
    with pytest.raises(ValueError, match="use each of T, Z, C at most once"):
        service.segment(image, "QYX", "bright")
    with pytest.raises(ModelFileError, match="there is no model 'none'; choose one of: bright@1"):
        service.segment(image, "ZYX", "none")


@pytest.mark.parametrize(
    ("image", "axes", "words"),
    [
        (np.ones((40, 50), complex), "YX", "complex128; give real numbers"),
        (np.full((40, 50), np.nan), "YX", "holds no finite number"),
        (np.full((40, 50), "a"), "YX", "give whole numbers or floats"),
    ],
)
def test_what_cannot_be_segmented_is_a_sentence(service, bright, image, axes, words):
    with pytest.raises(JobFailed, match=words):
        service.segment(image, axes, "bright").wait(SOON)


def test_a_small_tile_or_a_missing_device_is_a_sentence(service, bright):
    image = np.zeros((40, 50))
    with pytest.raises(JobFailed, match="a tile of 21 px is too small"):
        service.segment(image, "YX", "bright", PredictConfig(tile_px=21)).wait(SOON)
    if not torch.cuda.is_available():
        with pytest.raises(JobFailed, match="the device 'cuda' is not here; choose auto, or one"):
            service.segment(image, "YX", "bright", PredictConfig(device="cuda")).wait(SOON)


def test_an_image_that_cannot_be_read_fails_the_job_and_not_the_next(service, bright, run):
    class Broken:
        shape = (40, 50)

        def __getitem__(self, key):
            raise RuntimeError("chunk 3 is damaged")

    job = service.segment(Broken(), "YX", "bright")
    with pytest.raises(JobFailed, match="image cannot be read: chunk 3 is damaged"):
        job.wait(SOON)
    assert not run(np.zeros((40, 50))).any()


def test_a_model_file_that_breaks_is_told(service, bright):
    content = bright.path.read_bytes()
    bright.path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"is broken: [0-9]+ bytes of weights are in it"):
        service.segment(np.zeros((40, 50)), "YX", "bright").wait(SOON)
    bright.path.unlink()
    with pytest.raises(JobFailed, match="No such file"):
        service.segment(np.zeros((40, 50)), "YX", bright).wait(SOON)


def test_a_model_that_learnt_on_a_gpu_is_read_without_one(service, add_model, blobs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_model("there", settings={"device": "cuda", "precision": "bfloat16"})
    done = service.segment(blobs()[0], "YX", "there").wait(SOON)
    assert done.compute.startswith("CPU")
    assert done.n_cells == blobs()[1].max()


def test_a_model_file_that_is_overwritten_leaves_the_model_in_memory_as_it_is(
    service, bright, blobs
):
    image = blobs()[0]
    network = service.servers.chosen.load(bright).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with bright.path.open("r+b") as file:
        file.write(b"\0" * bright.path.stat().st_size)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(ValueError, match="is not a model of napari-unet"):
        service.segment(image, "YX", "bright", EXACT).wait(SOON)


def test_a_model_is_read_once_and_again_when_its_file_changes(
    run, bright, add_model, write_model, blobs, tmp_path
):
    from napari_unet.models import checkpoint

    image = blobs()[0]
    path = tmp_path / "m.safetensors"
    write_model(path)
    assert run(image, model=path).any()
    loaded = []
    original = checkpoint.load_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "load_model", lambda p: loaded.append(p) or original(p))
        run(image, model=path)
        assert loaded == []
        write_model(path, postprocess={"threshold": 0.5, "min_size_px": 10**6})
        assert not run(image, model=path).any()
        assert loaded == [path]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["?", "u1", "i1", "<u2", ">u2", ">i4", "i8", "u8", "f2", ">f4", "f8"]),
    kind=st.sampled_from(["constant", "noise", "extremes"]),
    spoiled=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    seed=st.integers(0, 99),
)
def test_labels_come_for_every_real_image(run, bright, shape, dtype, kind, spoiled, seed):
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (info.min, info.max) if info else (0, 1 if dtype.kind == "b" else 1000)
    if kind == "constant":
        image = np.full(shape, high)
    elif kind == "noise":
        image = rng.uniform(0, 1, shape) * 100
    else:
        image = np.where(rng.random(shape) < 0.5, low, high)
    image = image.astype(dtype)
    if spoiled is not None and dtype.kind == "f" and image.size > 1:
        image.flat[0] = spoiled
    before = image.copy()
    labels = run(image)
    assert labels.shape == shape
    assert labels.dtype == np.int32
    assert labels.min() >= 0
    np.testing.assert_array_equal(image, before)
    if kind == "constant":
        assert not labels.any()
    native = run(np.ascontiguousarray(image.astype(dtype.newbyteorder("="))))
    np.testing.assert_array_equal(labels, native)


@pytest.mark.parametrize("view", ["mirrored", "strided", "readonly"])
def test_views_give_what_copies_give(run, bright, blobs, view):
    image = blobs(shape=(100, 120))[0]
    image = {"mirrored": image[::-1, ::-1], "strided": image[::2, ::3], "readonly": image}[view]
    image.flags.writeable = view != "readonly"
    np.testing.assert_array_equal(run(image), run(image.copy()))


# Fine-tuning


@pytest.fixture
def weak(service, blobs):
    """A model that has learnt nearly nothing."""
    image, labels = blobs()
    job = service.train([annotate(image, "YX", labels)], "weak", SETTINGS, TINY, ["blobs, CC0"])
    return job.wait(SOON).model


def corner(labels):
    """Trusts the lower right part."""
    trusted = np.zeros(labels.shape, bool)
    trusted[30:, 25:] = True
    return trusted


def test_finetuning_learns_and_adds_a_version(service, store, weak, blobs):
    before = weak.path.read_bytes()
    image, labels = blobs()
    config = dataclasses.replace(SETTINGS, steps=60, seed=3)
    done = service.finetune([annotate(image, "YX", labels)], "weak", config).wait(SOON)
    assert done.steps == 60
    assert done.parent == weak
    assert done.model.reference == "weak@2"
    assert store.find("weak") == done.model
    assert weak.path.read_bytes() == before
    assert done.verdict.accepted
    assert done.check.after > done.check.before + 0.05
    assert done.check.after > 0.8
    assert done.replay is None, "nothing was corrected earlier"
    unknown, truth = blobs(seed=50)
    found = service.segment(unknown, "YX", "weak", EXACT).wait(SOON).labels
    assert ((found > 0) == (truth > 0)).mean() > 0.95
    assert store.revert("weak") == weak


def test_the_new_file_says_where_it_comes_from(service, store, weak, blobs):
    (image, labels), (image2, labels2) = blobs(), blobs(seed=1)
    config = dataclasses.replace(SETTINGS, seed=7, held_out=0.0)
    stack = annotate(np.stack([image, image2]), "ZYX", np.stack([labels, labels2]))
    done = service.finetune([stack], "weak", config).wait(SOON)
    header = read_header(done.model.path)
    assert header == done.model.header
    assert header.name == "weak"
    assert header.parent == weak.sha256()
    cells = labels.max() + labels2.max()
    assert header.trained_on == ("blobs, CC0", f"{cells} corrected cells on 2 planes")
    entries = collection_of(store, "weak").entries()
    assert header.corrections == {entry.key: entry.sha256 for entry in entries}
    assert (
        FinetuneConfig(
            **{**header.settings, "augment": AugmentConfig(**header.settings["augment"])}
        )
        == config
    )
    assert (header.seed, header.steps) == (7, 2)
    assert header.scores == {}, "nothing was held out"
    assert header.created.endswith("+00:00")
    assert header.architecture == weak.header.architecture
    assert header.normalisation == weak.header.normalisation
    # But for what it has learnt of the cells' sizes, and of its own scores.
    assert header.postprocess["gap_px"] == weak.header.postprocess["gap_px"]
    assert "radius_px" in header.postprocess.keys() - weak.header.postprocess.keys()
    assert weak.header.parent is None
    assert weak.header.trained_on == ("blobs, CC0",)
    assert weak.header.scores == {}


def test_the_same_seed_gives_the_same_weights(service, weak, blobs):
    image, labels = blobs()
    item = annotate(image, "YX", labels, corner(labels))
    first, same, other = (
        weights(
            service.finetune([item], weak, dataclasses.replace(SETTINGS, seed=seed))
            .wait(SOON)
            .model
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, weights(weak))


@pytest.mark.slow
def test_only_seen_pixels_teach(service, weak, blobs):
    image, labels = blobs()
    trusted = corner(labels)
    # The size is told, for what was not seen as a whole does not measure it.
    config = dataclasses.replace(SETTINGS, steps=4, diameter_px=24.0)
    rng = np.random.default_rng(0)
    garbage = np.where(trusted, labels, rng.integers(0, 9, labels.shape)).astype(np.int32)
    joined = np.where(trusted, labels, labels.max()).astype(np.int32)
    empty = np.where(trusted, labels, 0).astype(np.int32)
    results = [
        service.finetune([annotate(image, "YX", given, trusted)], weak, config).wait(SOON)
        for given in (labels, garbage, joined, empty)
    ]
    first = weights(results[0].model)
    for result in results[1:]:
        assert torch.equal(weights(result.model), first)
        assert result.check == results[0].check
    # The same labels with all pixels seen do teach something else.
    other = service.finetune([annotate(image, "YX", labels)], weak, config).wait(SOON)
    assert not torch.equal(weights(other.model), first)


def test_what_is_painted_after_the_start_is_not_learnt(service, weak, blobs):
    image, labels = blobs()
    painted, trusted = labels.copy(), corner(labels)
    expected = service.finetune([annotate(image, "YX", labels, trusted)], weak, SETTINGS)
    expected = weights(expected.wait(SOON).model)
    hold = threading.Event()
    service._runner.submit("before", lambda job: hold.wait(SOON))
    given = [annotate(image, "YX", painted, trusted)]
    job = service.finetune(given, weak, SETTINGS)
    painted[:], trusted[:] = 0, True
    given.append(annotate(image, "YX", painted))
    hold.set()
    assert torch.equal(weights(job.wait(SOON).model), expected)


def test_finetuning_reads_only_the_corrected_planes(service, weak, blobs):
    image, labels = blobs()
    stack = Recording(np.stack([image] * 4))
    item = Annotated(stack, "ZYX", (Correction((2,), labels, corner(labels)),))
    service.finetune([item], weak, SETTINGS).wait(SOON)
    assert stack.asked
    assert all(asked == (2, slice(None), slice(None)) for asked in stack.asked)


def test_cancelling_adds_no_version(service, store, weak, blobs):
    image, labels = blobs()
    config = dataclasses.replace(SETTINGS, steps=10**6)
    job = service.finetune([annotate(image, "YX", labels)], "weak", config)
    steps = []

    def listener(progress):
        if progress.loss is not None:
            steps.append(progress)
            if len(steps) == 3:
                job.cancel()

    job.progressed.connect(listener)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert len(steps) == 3
    assert store.versions("weak") == [weak]
    assert [p.name for p in weak.path.parent.rglob("*") if "part" in p.name] == []
    # But what was corrected is kept.
    (entry,) = collection_of(store, "weak").entries()
    assert entry.n_cells == labels.max()
    # The model in memory was not touched either.
    fresh = SegmentationService(ModelStore(store.root))
    one, other = (s.segment(image, "YX", "weak", EXACT).wait(SOON) for s in (service, fresh))
    fresh.close()
    np.testing.assert_array_equal(one.labels, other.labels)


def test_a_failure_adds_no_version(service, store, weak, blobs, monkeypatch):
    image, labels = blobs()
    item = annotate(image, "YX", labels)
    diverging = dataclasses.replace(SETTINGS, learning_rate=1e30, warmup_steps=0, steps=20)
    with pytest.raises(JobFailed, match="training diverged"):
        service.finetune([item], "weak", diverging).wait(SOON)
    with pytest.raises(JobFailed, match="a tile of 12 px is too small"):
        service.finetune([item], "weak", dataclasses.replace(SETTINGS, tile_px=12)).wait(SOON)

    def full(path, *args, **kwargs):
        raise OSError(28, "No space left on device")

    from napari_unet.models import checkpoint

    monkeypatch.setattr(checkpoint, "save_model", full)
    with pytest.raises(JobFailed, match="the file system says: No space left on device"):
        service.finetune([item], "weak", SETTINGS).wait(SOON)
    assert store.versions("weak") == [weak]
    names = sorted(p.name for p in weak.path.parent.iterdir())
    assert names == ["0001.safetensors", "active", "corrections"]


def test_one_cell_that_touches_the_border_teaches(service, store, weak, blobs):
    image, _ = blobs()
    one = np.zeros(image.shape, np.int32)
    one[:9, :12] = 1
    losses = []
    job = service.finetune([annotate(image, "YX", one, one > 0)], "weak", SETTINGS)
    job.progressed.connect(lambda told: losses.append(told.loss))
    done = job.wait(SOON)
    assert done.model.version == 2
    losses = [loss for loss in losses if loss is not None]
    assert losses
    assert np.isfinite(losses).all()


KILLED = """
import sys
from napari_unet.service.segmentation import SegmentationService
sys.path.insert(0, sys.argv[1])
from test_segmentation import LONGER
import numpy as np
from napari_unet.corrections.annotations import annotate

image, labels = np.load(sys.argv[2])
service = SegmentationService()
job = service.finetune([annotate(image, "YX", labels)], "weak", LONGER)
job.progressed.connect(lambda told: print(told.loss, flush=True))
job.wait(60)
"""
LONGER = dataclasses.replace(SETTINGS, steps=30)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9")
def test_a_fine_tune_after_a_kill_gives_the_weights_of_one_that_was_not_killed(
    service, store, weak, blobs, tmp_path
):
    image, labels = blobs()
    shutil.copytree(store.root, tmp_path / "other")
    np.save(tmp_path / "given.npy", np.stack([image.astype(np.int32), labels]))
    arguments = (str(Path(__file__).parent), str(tmp_path / "given.npy"))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        steps = 0
        for line in process.stdout:
            steps += line != "None\n"
            if steps == 5:
                break
        process.send_signal(signal.SIGKILL)
    assert steps == 5
    assert store.versions("weak") == [weak]
    assert len(collection_of(store, "weak").entries()) == 1
    given = [annotate(image.astype(np.int32), "YX", labels)]
    again = service.finetune(given, "weak", LONGER).wait(SOON)
    untouched = SegmentationService(ModelStore(tmp_path / "other"))
    expected = untouched.finetune(given, "weak", LONGER).wait(SOON)
    untouched.close()
    assert again.model.version == expected.model.version == 2
    assert torch.equal(weights(again.model), weights(expected.model))


def test_learning_from_nothing_is_told(service, weak):
    image, nothing = np.zeros((40, 50)), np.zeros((40, 50), bool)
    words = "nothing was corrected; paint at least one cell, then fine-tune"
    empty = annotate(image, "YX", np.zeros((40, 50), int), nothing)
    for given_ in ([], [empty]):
        with pytest.raises(ValueError, match=words):
            service.finetune(given_, "weak", SETTINGS)
        with pytest.raises(ValueError, match=words):
            service.train(given_, "weak", SETTINGS)
    unseen = Annotated(image, "YX", (Correction((), np.zeros((40, 50), np.int32), nothing),))
    for job in (
        service.finetune([unseen], "weak", SETTINGS),
        service.train([unseen], "new", SETTINGS, TINY),
    ):
        with pytest.raises(JobFailed, match="paint at least one cell"):
            job.wait(SOON)


def test_what_would_fail_at_the_end_fails_at_the_start(service, weak, blobs):
    image, labels = blobs()
    item = annotate(image, "YX", labels)
    for name in ("my cells", "../x", "x.safetensors"):
        with pytest.raises(ValueError, match="cannot be a model's name"):
            service.train([item], name, SETTINGS, TINY)
        with pytest.raises(ValueError, match="cannot be a model's name"):
            service.finetune([item], "weak", SETTINGS, name)
    with pytest.raises(ModelFileError, match="there is no model 'none'"):
        service.finetune([item], "none", SETTINGS)
    with pytest.raises(ModelFileError, match="there is no model 'none'"):
        service.train([item], "new", SETTINGS, "none")
    with pytest.raises(ValueError, match="name 3 axes and the image has 2"):
        service.finetune([dataclasses.replace(item, axes="ZYX")], "weak", SETTINGS)


def test_a_version_goes_to_the_name_asked_for(service, store, weak, blobs, tmp_path):
    image, labels = blobs()
    item = annotate(image, "YX", labels)
    mine = service.finetune([item], "weak", SETTINGS, "mine").wait(SOON).model
    assert (mine.reference, mine.header.name) == ("mine@1", "mine")
    assert store.parent(mine) == weak
    # A model goes by its name in the store, whatever its file was called.
    imported = store.import_file(store.export("weak", tmp_path / "w.safetensors"), "renamed")
    child = service.finetune([item], "renamed", SETTINGS).wait(SOON)
    assert (child.model.reference, child.parent) == ("renamed@2", imported)
    # A file outside the store gets its child into the store.
    outside = service.finetune([item], tmp_path / "w.safetensors", SETTINGS).wait(SOON).model
    assert outside.reference == "weak@2"
    assert outside.header.parent == weak.sha256()


# Training


def test_training_from_scratch_learns(service, store, blobs):
    items = [annotate(image, "YX", labels) for image, labels in map(blobs, range(2))]
    config = dataclasses.replace(SETTINGS, steps=80, balance=0.5)
    done = service.train(items, "cells", config, TINY, ["discs"]).wait(SOON)
    assert done.parent is None
    assert done.model.reference == "cells@1"
    assert done.model.header.trained_on == ("discs",)
    assert (done.check, done.replay, done.slips) == (None, None, ())
    assert done.verdict.accepted
    assert collection_of(store, "cells").entries() == []
    image, truth = blobs(seed=9)
    found = service.segment(image, "YX", "cells", EXACT).wait(SOON)
    assert found.n_cells == truth.max()


def test_training_goes_on_from_a_model(service, store, weak, blobs):
    image, labels = blobs()
    done = service.train([annotate(image, "YX", labels)], "next", SETTINGS, "weak").wait(SOON)
    assert done.parent == weak
    assert done.model.header.parent == weak.sha256()
    assert done.model.reference == "next@1"


def test_training_on_colours(service, blobs):
    image, labels = blobs()
    colour = annotate(np.stack([image] * 3, -1), "YXC", labels)
    new = dataclasses.replace(TINY, in_channels=3)
    done = service.train([colour, annotate(image, "YX", labels)], "rgb", SETTINGS, new).wait(SOON)
    assert done.model.header.architecture["in_channels"] == 3


# The preview of the augmentation


def test_the_preview_shows_draws(service, weak, blobs):
    image, labels = blobs()
    item = annotate(image, "YX", labels, corner(labels))
    shown = service.preview_augmentation(item, "weak", SETTINGS, draws=3).wait(SOON)
    size = shown.image.shape[1]
    assert 0 < size < 60
    expected = {
        "image": np.float32,
        "grid": np.uint8,
        "deformed_image": np.float32,
        "deformed_grid": np.uint8,
        "deformed_labels": np.int32,
        "weight": np.float32,
    }
    for name, dtype in expected.items():
        array = getattr(shown, name)
        channels = (1,) if name in ("image", "deformed_image") else ()
        assert array.shape == (3, size, size, *channels), name
        assert array.dtype == dtype, name
    assert shown.deformed_labels.any()
    assert shown.weight.min() == 0 < shown.weight.max()


def test_the_preview_needs_something_to_show(service, weak):
    unseen = np.zeros((40, 50), bool)
    item = Annotated(np.ones((40, 50)), "YX", ())
    with pytest.raises(ValueError, match="nothing was corrected"):
        service.preview_augmentation(item, "weak")
    nothing = Correction((), np.zeros((40, 50), np.int32), unseen)
    job = service.preview_augmentation(dataclasses.replace(item, corrections=(nothing,)), weak)
    with pytest.raises(JobFailed, match="nothing to learn from"):
        job.wait(SOON)


def test_closing_the_service_ends_its_jobs(store, weak, blobs):
    service = SegmentationService(store)
    image, labels = blobs()
    config = dataclasses.replace(SETTINGS, steps=10**6)
    jobs = [service.finetune([annotate(image, "YX", labels)], weak, config) for _ in range(2)]
    service.close()
    assert [job.reason for job in jobs] == [FinishReason.CANCELLED] * 2
    assert store.versions("weak") == [weak]


@pytest.fixture
def shipped(service, monkeypatch):
    """The service on a computer that has the models which ship."""
    monkeypatch.setattr(model_store, "SHIPPED", SHIPPED)
    return service


def test_another_shipped_model_is_named_where_it_is_steadier(shipped, monkeypatch, blobs):
    image, _ = blobs()
    asked = []

    def steady(of):
        def told(model, plane, config, compute, job):
            asked.append(model.header.name)
            return of[model.header.name]

        monkeypatch.setattr(looking, "steadiness_at_best", told)
        return shipped.better_model(image, "YX", "nuclei", ()).wait(SOON)

    assert steady({"nuclei": 0.3, "phase": 0.9}) == "phase"
    assert steady({"nuclei": 0.3, "phase": 0.45}) is None
    asked.clear()
    assert steady({"nuclei": 0.8, "phase": 1.0}) is None
    assert asked == ["nuclei"], "a model that suits is not compared"


@pytest.mark.slow
def test_bright_discs_suit_nuclei_better_than_phase(shipped, discs_image):
    def better(model):
        return shipped.better_model(discs_image, "YX", model, ()).wait(SOON)

    assert better("phase") == "nuclei"
    assert better("nuclei") is None


@pytest.fixture
def discs_image():
    """Bright discs 18 px wide on a dark noisy ground, (240, 240) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.indices((240, 240)) % 40 - 20
    disc = np.clip(10 - np.hypot(y, x), 0, 1)
    return np.clip(30 + 150 * disc + rng.normal(0, 4, disc.shape), 0, 255).astype(np.uint8)
