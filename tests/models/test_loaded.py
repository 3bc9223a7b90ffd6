import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_unet.config import PredictConfig
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import Compute
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel, PlaneScores

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
    assert scores.foreground.shape == truth.shape
    assert scores.foreground.dtype == np.float32
    assert (scores.classes, scores.zoom) == (None, 1.0)
    assert ((scores.foreground > 0.5) == (truth > 0)).mean() > 0.99
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


@pytest.mark.slow
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
    np.testing.assert_allclose(scores.foreground, whole.foreground, rtol=0, atol=1e-6)
    assert "memory is short: trying tiles of 286 px on the cpu" in told


def test_the_models_post_processing_holds_where_nothing_else_is_asked(load):
    scores = np.zeros((20, 30), np.float32)
    scores[2:5, 2:5] = 0.6  # 9 px
    scores[10:15, 10:15] = 0.9  # 25 px
    model = load(postprocess={"threshold": 0.5, "min_size_px": 4})

    def count(**asked):
        return int(model.instances(PlaneScores(scores), PredictConfig(**asked)).max())

    assert count() == 2
    assert count(threshold=0.7) == 1
    assert count(min_size_px=10) == 1
    assert count(min_size_px=0, threshold=0.95) == 0
    assert (
        int(load().instances(PlaneScores(scores), PredictConfig()).max()) == 1
    )  # 16 px by default


def test_the_zoom_brings_cells_to_the_size_that_the_network_knows(load):
    plain = load()
    assert plain.zoom(None) == 1
    assert plain.zoom(MIXED_DIAMETER_PX) == 1
    assert plain.zoom(4 * MIXED_DIAMETER_PX) == 0.25
    # Cells of 100 px, which the network sees at 25 px.
    tuned = load(diameter_px=100.0, zoom=0.25)
    assert tuned.zoom(None) == 0.25
    assert tuned.zoom(100.0) == 0.25
    assert tuned.zoom(50.0) == 0.5


@pytest.mark.parametrize("zoom", [0.3, 0.5, 2.0])
def test_scores_have_the_planes_shape_at_every_zoom(load, blobs, zoom):
    model, (image, truth) = load(), blobs(shape=(75, 82))
    sizes = []
    run = model.predictor(CPU).logits
    model.predictor(CPU).logits = lambda plane, *rest: (
        sizes.append(plane.shape) or run(plane, *rest)
    )
    scores = model.scores(model.prepare(image[None]), CPU, None, quiet, zoom)
    assert sizes == [(1, round(75 * zoom), round(82 * zoom))]
    assert scores.foreground.shape == truth.shape
    assert scores.zoom == zoom
    assert ((scores.foreground > 0.5) == (truth > 0)).mean() > 0.9


def test_sizes_of_the_post_processing_are_pixels_that_the_network_sees(load):
    foreground = np.zeros((60, 60), np.float32)
    foreground[2:12, 2:12] = 0.9  # 100 px, of which the network sees 25
    foreground[20:27, 20:27] = 0.9  # 49 px, 12 of them
    model = load(postprocess={"threshold": 0.5, "min_size_px": 16})

    def count(zoom, **asked):
        scores = PlaneScores(foreground, None, zoom)
        return int(model.instances(scores, PredictConfig(**asked)).max())

    assert (count(1.0), count(0.5), count(0.25)) == (2, 1, 0)
    assert count(0.25, min_size_px=60) == 1, "who asks means pixels of the image"


def test_the_kind_of_a_cell_is_that_of_most_of_its_pixels(load):
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 2:8], labels[10:16, 10:16] = 1, 2
    kinds = np.ones(labels.shape, np.uint8)
    kinds[10:16, 11:30] = 2
    kinds[2:8, 2:4] = 2
    model = load(classes=("background", "cell", "debris"))
    votes = model.votes(labels, kinds)
    np.testing.assert_array_equal(votes, [[0, 24, 12], [0, 6, 30]])
    assert model.kinds(votes) == ("cell", "debris")
    assert model.kinds(model.votes(np.zeros_like(labels), kinds)) == ()
    one = load(classes=("background", "nucleus"))
    votes = one.votes(labels, None)
    assert one.kinds(votes) == ("nucleus", "nucleus")


@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_classes_come_with_the_scores_of_several_classes(load, blobs, zoom):
    from napari_unet.core.network.unet import with_classes

    model, (image, _) = load(), blobs()
    network = with_classes(model.network, 3)
    with torch.no_grad():
        network.head.bias[2] += 1
    three = LoadedModel(network, model.header)
    scores = three.scores(three.prepare(image[None]), CPU, None, quiet, zoom)
    assert scores.classes.shape == image.shape
    assert scores.classes.dtype == np.uint8
    assert (scores.classes == 2).all(), "the likelier of the two, wherever a cell would be"


@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_the_distance_comes_with_the_scores_and_splits_cells(load, blobs, zoom):
    from napari_unet.core.network.unet import UNet, UNetConfig

    model, (image, truth) = load(postprocess={"seed_threshold": 0.5}), blobs()
    network = UNet(UNetConfig(depth=1, width=2, dropout=0.0, distance=True))
    state = model.network.state_dict()
    for name in ("head.weight", "head.bias"):
        # The contrary of the foreground.
        state[name] = torch.cat((state[name], state[name][:1] - state[name][1:]))
    network.load_state_dict(state)
    telling = LoadedModel(network.eval(), model.header)
    plane = telling.prepare(image[None])
    scores, other = (m.scores(plane, CPU, None, quiet, zoom) for m in (telling, model))
    np.testing.assert_array_equal(scores.foreground, other.foreground)
    assert (scores.classes, other.distance) == (None, None)
    assert scores.distance.shape == truth.shape
    contrary = gaussian_filter(1 - scores.foreground, 1 / zoom)
    np.testing.assert_allclose(scores.distance, contrary, atol=1e-3 if zoom == 1 else 0.25)
    whole = np.zeros((20, 40), np.float32)
    whole[4:16, 4:36] = 1
    cores = np.zeros_like(whole)
    cores[8:12, 8:14] = cores[8:12, 24:32] = 1
    found = telling.instances(PlaneScores(whole, None, 1.0, cores), PredictConfig())
    assert found.max() == 2
