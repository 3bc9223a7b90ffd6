import dataclasses

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.core.resample import resize_plane
from napari_unet.service.device import Compute
from napari_unet.service.diameter import guess_diameter
from napari_unet.service.jobs import JobFailed
from napari_unet.service.loaded_model import PlaneScores

CPU = Compute("cpu", "float32")


@pytest.fixture
def tiny(service, add_model):
    """A model for which cells are what is bright."""
    return service.servers.local.load(add_model())


@pytest.mark.parametrize("larger", [1, 3, 8])
def test_the_size_of_cells_is_told_whatever_it_is(tiny, blobs, larger):
    image, labels = blobs(shape=(112, 120))
    areas = np.bincount(labels.ravel())[1:]
    true = larger * np.sqrt(4 / np.pi * np.median(areas))
    plane = tiny.prepare(image[None])
    wide = resize_plane(plane, tuple(larger * n for n in image.shape))
    assert guess_diameter(tiny, wide, CPU) == pytest.approx(true, rel=0.2)


def test_what_shows_no_cells_has_no_size(tiny):
    assert guess_diameter(tiny, np.zeros((1, 80, 80), np.float32), CPU) is None
    assert guess_diameter(tiny, np.zeros((1, 3, 3), np.float32), CPU) is None


def test_the_surest_cores_tell(tiny, monkeypatch):
    """Cells of 20 px at all sizes of the image, with the highest cores where it is halved."""
    seen = []

    def scores(self, plane, *args):
        shape = plane.shape[1:]
        rows, columns = np.indices(shape)
        away = np.hypot(rows % 30 - 15, columns % 30 - 15)
        height = 0.9 if shape[0] == 150 else 0.6
        seen.append(shape)
        distance = (height * (1 - away / 10)).clip(0, 1)
        return PlaneScores((away < 10).astype(np.float32), distance=distance.astype(np.float32))

    monkeypatch.setattr(type(tiny), "scores", scores)
    found = guess_diameter(tiny, np.zeros((1, 300, 300), np.float32), CPU)
    assert found == pytest.approx(40, rel=0.1)
    assert (150, 150) in seen
    assert max(max(shape) for shape in seen) <= 400


def test_a_job_tells_it_and_another_uses_it(service, add_model, blobs):
    add_model()
    image, labels = blobs(shape=(112, 120))
    wide = np.kron(image, np.ones((4, 4), np.uint8))
    config = PredictConfig(device="cpu", precision="float32")
    found = service.guess_diameter(wide, "YX", "m", (), config).wait()
    assert found == pytest.approx(48, rel=0.2)
    auto = dataclasses.replace(config, diameter_px="auto")
    exact = dataclasses.replace(config, diameter_px=found)
    first, second = (service.segment(wide, "YX", "m", c).wait() for c in (auto, exact))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.n_cells == labels.max()


def test_a_plane_without_cells_is_told_in_a_sentence(service, add_model):
    add_model()
    config = PredictConfig(device="cpu")
    job = service.guess_diameter(np.zeros((60, 60)), "YX", "m", (), config)
    with pytest.raises(JobFailed, match="m@1 recognises no cells at any size; measure one"):
        job.wait()
    auto = dataclasses.replace(config, diameter_px="auto")
    assert service.segment(np.zeros((60, 60)), "YX", "m", auto).wait().n_cells == 0


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="diameter_px is 'large'; give a size in pixels, or 'auto"):
        PredictConfig(diameter_px="large")
