"""Tests for napari_unet.plugin.sample_data."""

import pytest

from napari_unet.plugin.sample_data import mitosis, tissue


def test_the_tissue_needs_no_internet(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    [(image, options, kind)] = tissue()
    assert (image.shape, options["rgb"], kind) == ((512, 512, 3), True, "image")


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
        ValueError, match=r"downloaded once.*internet; the sample 'tissue'"
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
    with pytest.raises(ValueError, match=r"pip install pooch; the sample 'tissue'"):
        mitosis()
