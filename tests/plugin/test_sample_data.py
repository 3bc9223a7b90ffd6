"""Tests for napari_unet.plugin.sample_data."""

import numpy as np
import pytest

import napari_unet
from napari_unet.core.cells.metrics import Scores
from napari_unet.plugin import drawn_images, sample_data
from napari_unet.plugin.sample_data import mitosis, tissue


def test_the_tissue_needs_no_internet(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    [(image, options, kind)] = tissue()
    assert (image.shape, options["rgb"], kind) == ((512, 512, 3), True, "image")


@pytest.mark.parametrize("name", ["nuclei", "stack", "movie", "channels", "phase_contrast"])
def test_drawn_samples_are_the_same_each_time_and_know_their_cells(name):
    [(image, options, kind)] = getattr(sample_data, name)()
    again, labels = getattr(drawn_images, name)()
    np.testing.assert_array_equal(image, again)
    assert (image.dtype, labels.dtype, kind) == (np.uint8, np.int32, "image")
    assert labels.shape == (image.shape[1:] if name == "channels" else image.shape)
    assert len(options.get("axis_labels", "yx")) == image.ndim
    seen = image[1] if name == "channels" else image
    assert len(np.unique(labels)) > 20
    # Cells are seen: brighter than the ground, or, in phase contrast, of another texture.
    inside, ground = seen[labels > 0].astype(float), seen[labels == 0].astype(float)
    assert abs(inside.mean() - ground.mean()) > ground.std() or name == "phase_contrast"


@pytest.mark.slow
def test_the_first_click_on_the_first_sample_is_good():
    image, labels = drawn_images.nuclei()
    scores = Scores()
    scores.add(labels, napari_unet.segment(image, model="nuclei@1"))
    assert scores.summary()["ap50"] > 0.9


def test_stacks_and_movies_keep_the_number_of_a_nucleus():
    stack, movie = drawn_images.stack()[1], drawn_images.movie()[1]
    assert len(np.intersect1d(stack[5], stack[6])) > 20
    # Mothers end where their daughters begin.
    before, after = set(np.unique(movie[4])), set(np.unique(movie[5]))
    assert len(after - before) == 2 * len(before - after) > 4


@pytest.fixture
def nothing_downloaded(monkeypatch, tmp_path):
    """scikit-image as after its installation."""
    from skimage.data import _fetchers

    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(
        _fetchers,
        "_image_fetcher",
        pooch.create(tmp_path, "https://127.0.0.1:9/", registry=_fetchers.registry),
    )


@pytest.mark.usefixtures("nothing_downloaded")
def test_without_internet_a_sentence_says_what_to_do():
    with pytest.raises(
        ValueError, match=r"downloaded once.*internet; the sample 'nuclei'"
    ) as error:
        mitosis()
    assert error.value.__cause__ is None
    assert "Error" not in str(error.value)


def test_without_pooch_a_sentence_says_what_to_do(monkeypatch, tmp_path):
    from skimage.data import _fetchers

    monkeypatch.setattr(_fetchers, "_image_fetcher", None)
    monkeypatch.setattr(_fetchers, "data_dir", str(tmp_path / "data"))
    # Under pytest scikit-image skips the test instead.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(ValueError, match=r"pip install pooch; the sample 'nuclei'"):
        mitosis()
