import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.learning.validation import compare_sights
from napari_unet.models import steadiness as module
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.steadiness import Sight, belief, sight, steadiness

CPU = Compute("cpu", "float32")


def quiet():
    pass


@pytest.fixture
def bright(write_model, tmp_path):
    write_model(tmp_path / "m.safetensors")
    return LoadedModel(*load_model(tmp_path / "m.safetensors"))


def plane(model, image, seen=None):
    nothing = np.zeros(image.shape, bool)
    return AnnotatedPlane(
        model.prepare(image[None]), nothing.astype(np.int32), nothing if seen is None else seen
    )


def of(labels, seen=(), again=0, total=0):
    labels = np.array([labels], np.int32)
    mask = np.zeros(labels.shape, bool)
    mask[0, list(seen)] = True
    return Sight(labels, mask, again, total)


def test_what_a_model_knows_it_finds_again_and_noise_it_does_not(bright, blobs):
    image, labels = blobs()
    known = sight(bright, plane(bright, image), CPU, quiet)
    assert len(np.unique(known.labels)) == len(np.unique(labels))
    assert steadiness([known]) > 0.95
    # Bright enough here and there, by chance: at another size it is somewhere else.
    noise = np.random.default_rng(0).integers(0, 255, image.shape).astype(np.uint8)
    lost = sight(bright, plane(bright, noise), CPU, quiet)
    assert steadiness([lost]) < 0.6
    assert belief([known]) == 1
    assert belief([lost]) == 0


def test_of_a_large_plane_what_is_around_the_corrections_is_looked_at(bright, blobs, monkeypatch):
    monkeypatch.setattr(module, "_WINDOW_PX", 60)
    image, _ = blobs(shape=(72, 200))
    seen = np.zeros(image.shape, bool)
    seen[30:34, 150:156] = True
    found = sight(bright, plane(bright, image, seen), CPU, quiet)
    assert found.labels.shape == (60, 60)
    np.testing.assert_array_equal(found.seen, seen[1:61, 122:182])
    whole = sight(bright, plane(bright, image), CPU, quiet)
    assert whole.labels.shape == (60, 60), "nobody looked: the middle"


def test_looking_can_be_stopped(bright, blobs):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sight(bright, plane(bright, blobs()[0]), CPU, stop)


def test_without_cells_nothing_is_steady():
    assert steadiness([]) == steadiness([of([0, 0])]) == 0
    assert belief([]) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4))
def test_belief_rises_with_steadiness_from_0_to_1(counts):
    sights = [of([0], again=min(pair), total=max(pair)) for pair in counts]
    assert 0 <= belief(sights) <= 1
    assert (belief(sights) == 0) == (steadiness(sights) <= 0.7)
    surer = [of([0], again=s.total, total=s.total) for s in sights]
    assert belief(surer) >= belief(sights)


def test_cells_that_somebody_looked_at_are_not_compared():
    before = [of([1, 1, 0, 2, 2, 0, 3, 3], seen=[0], again=4, total=5)]
    after = [of([0, 0, 0, 7, 7, 0, 0, 9], seen=[0], again=1, total=4)]
    found = compare_sights(before, after, 6)
    assert (found.before, found.after, found.n_places) == (2, 2, 6)
    assert found.kept == 1
    assert (found.steady_before, found.steady_after) == (0.8, 0.25)
    gone = compare_sights(before, [of([0] * 8, seen=[0])], 6)
    assert (gone.after, gone.kept) == (0, 0)
    assert compare_sights([of([0])], [of([0])], 1).kept == 1, "nothing was there to lose"
