import numpy as np
import pytest

from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.learning.training import NewModel, new_model
from napari_unet.models.decoding import postprocess_for, thresholds_for
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel, PlaneScores

CPU = Compute("cpu", "float32")


@pytest.fixture
def threshold_of(monkeypatch):
    """What is best for a model whose scores, and distances, are the image; how many it saw."""
    seen = []

    def scores(self, plane, compute, tile_px, progress):
        progress(1.0, "")
        seen.append(plane.shape)
        return PlaneScores(plane[0], distance=plane[-1])

    monkeypatch.setattr(LoadedModel, "scores", scores)
    model = new_model(NewModel(depth=1, width=2), "m", seed=0)

    def best(planes, name="threshold"):
        found = thresholds_for(model, planes, CPU, lambda: None, resized=True)
        return found.get(name), len(seen)

    return best


def plane_of(cells, background, trusted=None):
    labels = np.zeros((60, 80), np.int32)
    labels[20:40, 20:40] = 1
    image = np.where(labels > 0, cells, background).astype(np.float32)
    return AnnotatedPlane(image[None], labels, trusted)


@pytest.mark.parametrize("distance", [False, True])
def test_cells_of_one_size_are_told_from_their_pieces(distance):
    labels = np.zeros((100, 200), np.int32)
    for cell in range(1, 9):
        labels[20:60, 24 * cell - 20 : 24 * cell] = cell
    plane = AnnotatedPlane(np.zeros((1, *labels.shape), np.float32), labels)
    model = new_model(NewModel(depth=2, width=3, distance=distance), "m", 0)
    model.header.postprocess["seed_threshold"] = None
    as_they_are = postprocess_for([plane], model, 1.0)
    assert as_they_are["radius_px"] == np.sqrt(800 / np.pi)
    assert 0 < as_they_are["threshold"] < 0.5
    assert as_they_are["min_size_px"] == model.header.postprocess["min_size_px"]
    assert bool(as_they_are["seed_threshold"]) == distance
    resized = {"min_size_px": 240, "threshold": 0.4}
    assert postprocess_for([plane], model, 0.5) == {**as_they_are, **resized}
    assert postprocess_for([], model, 0.5) == model.header.postprocess


def test_the_cores_that_a_model_was_given_stay():
    labels = np.ones((10, 10), np.int32)
    plane = AnnotatedPlane(np.zeros((1, 10, 10), np.float32), labels)
    model = new_model(NewModel(depth=2, width=3), "m", 0)
    model.header.postprocess["seed_threshold"] = 0.35
    assert postprocess_for([plane], model, 1.0)["seed_threshold"] == 0.35


@pytest.mark.parametrize(
    ("cells", "background"), [(0.9, 0.57), (0.9, 0.05), (0.3, 0.22), (0.18, 0.01)]
)
def test_the_threshold_lies_between_seen_cells_and_background(threshold_of, cells, background):
    threshold, _ = threshold_of([plane_of(cells, background)])
    assert background < threshold < cells


def test_what_was_not_seen_has_no_say_in_the_threshold(threshold_of):
    trusted = np.zeros((60, 80), bool)
    trusted[10:50, 10:50] = True
    plane = plane_of(0.3, 0.1, trusted)
    plane.image[:, ~trusted] = 0.9
    threshold, _ = threshold_of([plane])
    assert 0.1 < threshold < 0.3


def test_larger_images_have_more_say_in_the_threshold(threshold_of):
    faint = np.zeros((60, 80), bool)
    faint[20:24, 20:24] = True
    threshold, _ = threshold_of([plane_of(0.9, 0.52), plane_of(0.3, 0.1, faint)])
    assert threshold > 0.5


def test_cells_reach_the_peak_that_is_asked_of_them(threshold_of):
    assert threshold_of([plane_of(0.9, 0.05)], "peak_threshold")[0] == 0.4
    planes = [*[plane_of(0.9, 0.05)] * 3, plane_of(0.3, 0.05)]
    flat, _ = threshold_of(planes, "peak_threshold")
    assert 0.2 < flat < 0.4
    assert threshold_of([plane_of(0.2, 0.05)], "peak_threshold")[0] == 0.25, "less is noise"


def test_the_threshold_is_not_that_of_noise_where_cells_have_the_known_size(threshold_of):
    planes = [plane_of(0.18, 0.01)]
    assert threshold_of(planes)[0] < 0.18
    model = new_model(NewModel(depth=1, width=2), "m", seed=0)
    assert thresholds_for(model, planes, CPU, lambda: None)["threshold"] == 0.3


def test_without_a_seen_cell_there_is_no_threshold(threshold_of):
    empty = AnnotatedPlane(np.zeros((1, 20, 20), np.float32), np.zeros((20, 20), np.int32))
    assert threshold_of([empty]) == (None, 0)
    assert threshold_of([]) == (None, 0)


def test_of_many_planes_some_say_the_threshold(threshold_of):
    threshold, n_seen = threshold_of([plane_of(0.9, 0.05)] * 100)
    assert threshold is not None
    assert 8 <= n_seen <= 16
