import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.engine.checkpoint import load_model
from napari_unet.service.device import Compute
from napari_unet.service.loaded_model import LoadedModel

CPU = Compute("cpu", "float32")


def quiet(fraction, message):
    pass


@pytest.fixture
def load(write_model, tmp_path):
    def load(**kwargs):
        write_model(tmp_path / "m.safetensors", **kwargs)
        return LoadedModel(*load_model(tmp_path / "m.safetensors"))

    return load


def test_images_are_scaled_as_the_header_says(load):
    plane = np.arange(101.0).reshape(1, 1, 101)
    model = load(normalisation={"low": 10.0, "high": 60.0, "clip": 0.5})
    expected = ((np.arange(101) - 10) / 50).clip(-0.5, 1.5)
    np.testing.assert_allclose(model.prepare(plane)[0, 0], expected, rtol=1e-6)


def test_a_box_is_scaled_like_the_whole_plane(load, blobs):
    model, plane = load(), blobs()[0][None]
    box = (slice(3, 20), slice(40, 80))
    np.testing.assert_array_equal(model.prepare(plane, box), model.prepare(plane)[:, 3:20, 40:80])


@pytest.mark.parametrize(("takes", "given"), [(1, 1), (1, 3), (1, 4), (3, 1), (3, 3), (3, 4)])
def test_channels_are_brought_to_what_the_model_takes(load, takes, given):
    assert load(in_channels=takes).prepare(np.ones((given, 8, 9))).shape == (takes, 8, 9)


@pytest.mark.parametrize(("takes", "given"), [(1, 2), (3, 2), (2, 3), (1, 5)])
def test_channels_that_do_not_fit_are_told(load, takes, given):
    words = f"the image has {given} channels and the model takes {takes}; choose one"
    with pytest.raises(ValueError, match=words):
        load(in_channels=takes).prepare(np.ones((given, 8, 9)))


def test_scores_tell_bright_from_dark(load, blobs):
    model = load()
    image, truth = blobs()
    scores = model.scores(model.prepare(image[None]), CPU, None, quiet)
    assert scores.shape == truth.shape
    assert scores.dtype == np.float32
    assert ((scores > 0.5) == (truth > 0)).mean() > 0.99
    labels = model.instances(scores, PredictConfig())
    assert len(np.unique(labels)) == len(np.unique(truth))


def test_progress_is_told_for_each_tile(load, blobs):
    model, told = load(), []
    plane = model.prepare(blobs(shape=(72, 80))[0][None])
    model.scores(plane, CPU, 40, lambda fraction, message: told.append(fraction))
    assert told[0] == 0
    assert told[-1] == 1
    assert told == sorted(set(told))
    assert len(told) > 4


def test_a_tile_below_the_smallest_is_told(load, blobs):
    for depth, smallest in ((1, 22), (2, 48)):
        model = load(depth=depth)
        plane = model.prepare(blobs()[0][None])
        words = f"a tile of {smallest - 1} px is too small for this model; give {smallest} px"
        with pytest.raises(ValueError, match=words):
            model.scores(plane, CPU, smallest - 1, quiet)
        model.scores(plane, CPU, smallest, quiet)


def test_short_memory_means_smaller_tiles_and_the_same_scores(load, blobs, monkeypatch):
    from napari_unet.engine.predict import Predictor

    model, told = load(), []
    plane = model.prepare(blobs()[0][None])
    whole = model.scores(plane, CPU, None, quiet)
    run = Predictor._run

    def small(self, tile):
        if tile.shape[-1] > 40:
            raise torch.OutOfMemoryError("out of memory")
        return run(self, tile)

    monkeypatch.setattr(Predictor, "_run", small)
    scores = model.scores(plane, CPU, None, lambda fraction, message: told.append(message))
    np.testing.assert_allclose(scores, whole, rtol=0, atol=1e-6)
    assert "memory is short: trying tiles of 510 px on the cpu" in told


def test_the_models_post_processing_holds_where_nothing_else_is_asked(load):
    scores = np.zeros((20, 30), np.float32)
    scores[2:5, 2:5] = 0.6  # 9 px
    scores[10:15, 10:15] = 0.9  # 25 px
    model = load(postprocess={"threshold": 0.5, "min_size_px": 4})

    def count(**asked):
        return int(model.instances(scores, PredictConfig(**asked)).max())

    assert count() == 2
    assert count(threshold=0.7) == 1
    assert count(min_size_px=10) == 1
    assert count(min_size_px=0, threshold=0.95) == 0
    assert int(load().instances(scores, PredictConfig()).max()) == 1  # 16 px by default
