import dataclasses

import numpy as np
import pytest
import torch
from skimage.measure import regionprops

import napari_unet
from napari_unet import api
from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.jobs import JobFailed
from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import ModelFileError

EXACT = PredictConfig(device="cpu", precision="float32")
QUICK = FinetuneConfig(
    steps=3, seconds=None, tile_px=60, learning_rate=1e-3, device="cpu", precision="float32"
)


@pytest.fixture(autouse=True)
def fresh_service(models_folder):
    """The service is kept while the program runs, and with it the folder of models."""
    api._service.cache_clear()
    yield
    api._service().close()
    api._service.cache_clear()


@pytest.fixture(autouse=True)
def nuclei(add_model):
    return add_model("nuclei")


def weights(model):
    return torch.cat([p.flatten() for p in load_model(model.path)[0].state_dict().values()])


def test_segment_gives_int32_labels(blobs):
    image, truth = blobs()
    labels = napari_unet.segment(image)
    assert labels.dtype == np.int32
    assert labels.shape == image.shape
    assert labels.max() == truth.max()
    assert ((labels > 0) == (truth > 0)).mean() > 0.99


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((2, 40, 50), None, (2, 40, 50)),
        ((40, 50, 3), None, (40, 50)),
        ((40, 50, 4), None, (40, 50)),
        ((2, 40, 50, 3), None, (2, 40, 50)),
        ((2, 2, 40, 50), None, (2, 2, 40, 50)),
        ((1, 40, 50), "CYX", (40, 50)),
        ((40, 50, 1), None, (40, 50)),
        ((1, 1, 1, 1, 40, 50), None, (40, 50)),
        ((40, 50, 3), "ZYX", (40, 50, 3)),
        ((40, 50, 1), "yxc", (40, 50)),
    ],
)
def test_axes_are_guessed_or_given(shape, axes, expected):
    assert napari_unet.segment(np.zeros(shape, np.uint8), axes=axes).shape == expected


def test_trackers_get_a_mask_for_each_time(blobs):
    """What napari-trackastra asks of its two layers: (T, Y, X) images, and masks of this shape."""
    movie = np.stack([blobs(seed)[0] for seed in range(3)])
    masks = napari_unet.segment(movie, axes="TYX")
    assert masks.shape == movie.shape
    assert np.issubdtype(masks.dtype, np.integer)
    for image, mask in zip(movie, masks, strict=True):
        # It measures each cell of a time, as this does.
        regions = regionprops(mask, image)
        assert len(regions) == 12
        assert all(region.intensity_mean > image[mask == 0].mean() + 50 for region in regions)


def test_lists_and_lazy_arrays_are_images(blobs):
    image = blobs()[0]
    expected = napari_unet.segment(image)
    np.testing.assert_array_equal(napari_unet.segment(image.tolist()), expected)
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(np.stack([image, image]), chunks=(1, 30, 30))
    labels = napari_unet.segment(lazy)
    np.testing.assert_array_equal(labels[0], expected)
    np.testing.assert_array_equal(labels[1] > 0, expected > 0)


def test_a_model_by_name_version_path_or_itself(blobs, add_model, nuclei, tmp_path):
    image = blobs()[0]
    add_model("nuclei", postprocess={"min_size_px": 10**6})
    assert not napari_unet.segment(image).any()
    expected = napari_unet.segment(image, "nuclei@1")
    assert expected.any()
    for model in (nuclei, nuclei.path, str(nuclei.path)):
        np.testing.assert_array_equal(napari_unet.segment(image, model), expected)
    assert not napari_unet.segment(image, model=napari_unet.load_model()).any()


def test_settings_are_passed_on(blobs):
    image = blobs()[0]
    assert not napari_unet.segment(image, config=PredictConfig(min_size_px=10**6)).any()
    whole = napari_unet.segment(image, config=EXACT)
    tiled = napari_unet.segment(image, config=dataclasses.replace(EXACT, tile_px=30))
    np.testing.assert_array_equal(tiled, whole)


def test_wrong_calls_are_value_errors():
    image = np.zeros((40, 50))
    with pytest.raises(ValueError, match="the image has 1 axes; name them"):
        napari_unet.segment(image[0])
    with pytest.raises(ValueError, match="name 3 axes and the image has 2"):
        napari_unet.segment(image, axes="ZYX")
    with pytest.raises(ModelFileError, match="there is no model 'none'; choose one of: nuclei@1"):
        napari_unet.segment(image, "none")


def test_work_that_fails_is_a_job_failed():
    with pytest.raises(JobFailed, match="the image holds no finite number"):
        napari_unet.segment(np.full((40, 50), np.nan))


def test_load_model_tells_of_the_file(nuclei):
    assert napari_unet.load_model() == nuclei
    assert napari_unet.load_model("nuclei@1").header.name == "nuclei"
    assert napari_unet.load_model(nuclei.path).version == 0
    assert napari_unet.load_model(nuclei) is nuclei
    with pytest.raises(ModelFileError, match="there is no model"):
        napari_unet.load_model("none")


def test_finetune_gives_a_new_version_that_segments(nuclei, blobs):
    image, labels = blobs()
    model = napari_unet.finetune(image, labels, config=QUICK)
    assert model.reference == "nuclei@2"
    assert model.header.parent == nuclei.sha256()
    assert napari_unet.load_model() == model
    assert napari_unet.segment(image, model).shape == image.shape
    second = napari_unet.finetune(image, labels, model, config=QUICK, name="mine")
    assert second.reference == "mine@1"
    assert second.header.parent == model.sha256()
    third = napari_unet.finetune(image, labels, second, config=QUICK)
    assert third.reference == "mine@2"


def test_finetune_learns_from_trusted_pixels_only(blobs):
    image, labels = blobs()
    trusted = np.zeros(labels.shape, bool)
    trusted[:, :40] = True
    # The size is told, for what was not seen as a whole does not measure it.
    config = dataclasses.replace(QUICK, diameter_px=24.0)
    first, same, other = (
        napari_unet.finetune(image, given, "nuclei@1", trusted=mask, config=config)
        for given, mask in (
            (labels, trusted),
            (np.where(trusted, labels, 5), trusted.astype(np.uint8)),
            (labels, None),
        )
    )
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_finetune_changes_none_of_its_arguments(blobs):
    image, labels = blobs()
    trusted = np.zeros(labels.shape, bool)
    trusted[:, :40] = True
    given = [image.copy(), labels.copy(), trusted.copy()]
    napari_unet.finetune(image, labels, trusted=trusted, config=QUICK)
    for before, after in zip(given, (image, labels, trusted), strict=True):
        np.testing.assert_array_equal(before, after)


def test_finetune_on_stacks_and_colours(blobs):
    image, labels = blobs(shape=(40, 50))
    image2, labels2 = blobs(seed=1, shape=(40, 50))
    stack = np.stack([np.stack([plane] * 3, -1) for plane in (image, image2)])
    both = np.stack([labels, labels2])
    model = napari_unet.finetune(stack, both, config=QUICK)
    count = labels.max() + labels2.max()
    assert model.header.trained_on[-1] == f"{count} corrected cells on 2 planes"
    seen = np.zeros((2, 40, 50), bool)
    seen[1] = True
    model = napari_unet.finetune(stack, both, trusted=seen, config=QUICK, name="fresh")
    assert model.reference == "fresh@1"
    # With what its parent was corrected by.
    assert model.header.trained_on[-1] == f"{count} corrected cells on 2 planes"


def test_seconds_limit_the_time(blobs):
    image, labels = blobs()
    endless = dataclasses.replace(QUICK, steps=10**9)
    with pytest.warns(UserWarning, match="training steps? (was|were) possible"):
        model = napari_unet.finetune(image, labels, seconds=0.05, config=endless)
    assert model.header.settings["seconds"] is None, "steps say it exactly"
    assert 0 < model.header.steps <= model.header.settings["steps"] < 10**4


@pytest.mark.parametrize(
    ("labels", "trusted", "words"),
    [
        (np.zeros((50, 40), int), None, r"the labels are \(50, 40\) and the image is \(40, 50\)"),
        (np.zeros((40, 50), int), np.ones(3), r"the trusted mask is \(3,\) and the image is"),
        (np.full((40, 50), 0.5), None, "the labels are float64; give whole numbers"),
        (np.zeros((40, 50), int), np.zeros((40, 50), bool), "nothing was corrected"),
    ],
)
def test_finetune_on_what_does_not_fit(labels, trusted, words):
    with pytest.raises(ValueError, match=words):
        napari_unet.finetune(np.zeros((40, 50)), labels, trusted=trusted, config=QUICK)
    assert napari_unet.load_model().version == 1


def test_an_interrupt_ends_the_work_too(blobs, monkeypatch):
    image, labels = blobs()
    service, jobs = api._service(), []
    finetune = service.finetune

    def interrupted(*args):
        job = finetune(*args)
        wait = job._end.wait
        jobs.append(job)

        def once(timeout=None):
            job._end.wait = wait
            raise KeyboardInterrupt

        job._end.wait = once
        return job

    monkeypatch.setattr(service, "finetune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        napari_unet.finetune(image, labels, config=dataclasses.replace(QUICK, steps=10**9))
    jobs[0]._end.wait(30)
    assert jobs[0].reason.value == "cancelled"
    assert napari_unet.load_model().version == 1


def test_cells_are_measured(blobs):
    image, labels = blobs()
    columns = napari_unet.measure(image, labels, scale=(0.5, 0.5))
    assert columns["label"].tolist() == list(range(1, 13))
    assert columns["area"].sum() == (labels > 0).sum() / 4
    stack = napari_unet.measure([image] * 2, [labels] * 2)
    assert stack["volume"].tolist() == (8 * columns["area"]).tolist()
    with pytest.raises(ValueError, match="name 3 axes and the image has 2"):
        napari_unet.measure(image, labels, axes="ZYX")
