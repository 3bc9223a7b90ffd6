import numpy as np
import pytest

from napari_unet.learning import live_view
from napari_unet.learning.live_view import LiveView, View
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel


class Lazy:
    """An image that counts the pixels that are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.read = 0

    def __getitem__(self, key):
        part = self.array[key]
        self.read += part.size
        return part


@pytest.fixture
def live(add_model):
    model = LoadedModel(*load_model(add_model(normalisation={"low": 0.0, "high": 100.0}).path))
    return LiveView(model, choose("cpu", "float32"), 1.0, lambda: None)


def test_only_the_view_and_a_margin_are_read_at_each_look(live, blobs):
    image = Lazy(np.tile(blobs(0, (512, 512))[0], (6, 6)))
    live.look(View(image, "YX", (), (slice(0, 300), slice(0, 300))))
    assert image.read < 0.5 * image.array.size, "a sample for the intensities, and the view"
    first = image.read
    live.look(View(image, "YX", (), (slice(900, 1200), slice(900, 1200))))
    assert image.read - first <= 500 * 500


def test_the_labels_of_a_view_are_those_of_the_whole_plane(live, blobs):
    image, _ = blobs(1, (360, 360))
    whole = live.look(View(image, "YX", (), (slice(0, 360), slice(0, 360)))).labels
    box = (slice(130, 230), slice(120, 240))
    part = live.look(View(image, "YX", (), box))
    assert part.view.box == box
    assert np.array_equal(part.labels > 0, whole[box] > 0)
    assert (part.labels > 0).any()


def test_another_plane_has_intensities_of_its_own(live, blobs):
    image = np.stack([blobs(2)[0], blobs(2)[0] // 4])
    box = (slice(0, 72), slice(0, 80))
    bright, dark = (live.look(View(image, "ZYX", (n,), box)).labels for n in (0, 1))
    assert np.array_equal(bright > 0, dark > 0) or abs(bright.max() - dark.max()) <= 1


def test_of_a_large_view_the_middle_is_shown(live, blobs, monkeypatch):
    monkeypatch.setattr(live_view, "_LOOK_PX", 40)
    image, truth = blobs(shape=(200, 220))
    view = View(image, "YX", (), (slice(0, 200), slice(100, 130)))
    for zoom, height in ((1.0, 40), (0.5, 80)):
        monkeypatch.setattr(live, "_zoom", zoom)
        shown = live.look(view)
        y, x = shown.view.box
        assert (y.stop - y.start, x) == (height, slice(100, 130))
        assert y.start + y.stop == 200
        assert shown.labels.shape == (height, 30)
        assert ((shown.labels > 0) == (truth[y, x] > 0)).mean() > 0.9
