import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.models.loaded import LoadedModel
from napari_unet.segmentation.linking import check_link, linked_ids

SOON = 60.0


@pytest.fixture
def movie():
    """Two cells of a stack over time: bright (T, Z, Y, X) = (3, 4, 40, 60); and its labels."""
    rows, columns = np.indices((40, 60))
    image, labels = (np.zeros((3, 4, 40, 60), kind) for kind in (np.uint8, np.int32))
    for t in range(3):
        for z in range(4):
            for number, x in enumerate((14, 42), 1):
                cell = (rows - 20) ** 2 + (columns - x - t) ** 2 <= (8 + z) ** 2
                labels[t, z][cell] = 2 * (4 * t + z) + number
    image[labels > 0] = 200
    return image + np.uint8(20), labels


@pytest.mark.parametrize(("link", "n"), [("none", 24), ("z", 6), ("t", 8), ("zt", 2)])
@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "YXTZ"])
def test_objects_along_each_axis(movie, link, n, axes):
    labels = movie[1].transpose(["TZYX".index(axis) for axis in axes])
    planes = set()
    numbers = linked_ids(labels, axes, link, progress=lambda *now: planes.add(now))
    assert planes <= {(n, 12) for n in range(12)}
    assert link == "none" or (11, 12) in planes
    assert numbers[0] == 0
    assert sorted(set(numbers.tolist())) == list(range(n + 1))
    out = numbers[labels].transpose([axes.index(axis) for axis in "TZYX"])
    left = out[:, :, 20, 14]
    if "z" in link:
        assert (left == left[:, :1]).all()
    if "t" in link:
        assert (left == left[:1]).all()
    assert not set(left.ravel().tolist()) & set(out[:, :, 20, 44].ravel().tolist())


def test_labels_without_cells():
    for link in ("none", "z"):
        assert linked_ids(np.zeros((3, 4, 5), np.int32), "ZYX", link).tolist() == [0]


def test_the_axis_has_to_be_there():
    check_link("none", "YX")
    check_link("zt", "TZYX")
    with pytest.raises(ValueError, match="along Z and the image has the axes TYX; name its axes"):
        check_link("zt", "TYX")


def test_a_cancel_is_noticed_between_planes(movie):
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        linked_ids(movie[1], "TZYX", "z", check)


def test_segment_gives_linked_cells(service, add_model, movie):
    add_model("bright", normalisation={"low": 0.0, "high": 100.0})
    image, truth = movie
    counts = {}
    for link in ("none", "z", "t", "zt"):
        config = PredictConfig(device="cpu", precision="float32", link=link)
        done = service.segment(image, "TZYX", "bright", config).wait(SOON)
        counts[link] = done.n_cells
        assert np.unique(done.labels).tolist() == list(range(done.n_cells + 1))
        assert len(done.kinds) == done.n_cells
        assert done.is_linked == (link != "none")
        assert ((done.labels > 0) == (truth > 0)).mean() > 0.98
        assert 16 < done.diameter_px < 22, "of a section, linked or not"
    assert counts == {"none": 24, "z": 6, "t": 8, "zt": 2}
    with pytest.raises(ValueError, match="along T and the image has the axes ZYX"):
        service.segment(image[0], "ZYX", "bright", PredictConfig(link="t"))


def test_the_class_of_an_object_is_that_of_most_of_its_pixels(
    service, add_model, movie, monkeypatch
):
    add_model("two", classes=("background", "cell"))
    votes = iter([[[0, 9], [0, 9]], [[0, 9], [7, 0]], [[0, 9], [7, 0]], [[0, 9], [3, 0]]])
    monkeypatch.setattr(LoadedModel, "votes", lambda *_: np.array(next(votes)))
    config = PredictConfig(device="cpu", precision="float32", link="z")
    done = service.segment(movie[0][0], "ZYX", "two", config).wait(SOON)
    assert done.kinds == ("cell", "background"), "9 against 17 pixels"


def test_a_wrong_setting_is_refused():
    with pytest.raises(ValueError, match="link is 'x'; give one of 'none', 'z', 't', 'zt'"):
        PredictConfig(link="x")
