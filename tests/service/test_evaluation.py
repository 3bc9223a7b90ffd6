import numpy as np
import pytest
import tifffile

from napari_unet.config import PredictConfig
from napari_unet.core.cells.metrics import Scores
from napari_unet.corrections.labelled_folders import list_pairs
from napari_unet.io.images import write_labels
from napari_unet.jobs import JobFailed
from napari_unet.service.evaluation import evaluate

KEYS = {
    "n_images", "n_true", "n_pred", "ap50", "ap75", "map", "f1_50", "precision_50", "recall_50",
    "seg", "iou", "pixel_error", "seconds",
}  # fmt: skip
EXACT = PredictConfig(device="cpu", precision="float32")


@pytest.fixture
def pairs(tmp_path, blobs):
    """Two images with their labels, one of them a stack with wrong labels on its second plane."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    image, truth = blobs(1)
    tifffile.imwrite(images / "a.tif", image)
    write_labels(labels / "a.tif", truth, "YX")
    tifffile.imwrite(images / "b.tif", np.stack([image, image]))
    write_labels(labels / "b.tif", np.stack([truth, np.where(truth % 2, truth, 0)]), "ZYX")
    return list_pairs(images, labels)


def test_the_numbers_are_those_of_the_labels(service, add_model, pairs):
    add_model("m")
    expected, counted = Scores(), []
    for image, labels in pairs:
        pixels, truth = np.atleast_3d(tifffile.imread(image).T).T, tifffile.imread(labels)
        found = service.segment(pixels, "ZYX", "m", EXACT).wait().labels
        for plane in range(len(pixels)):
            expected.add(np.atleast_3d(truth.T).T[plane], found[plane])
    scores = evaluate(service, pairs, "m", EXACT, lambda *done: counted.append(done))
    assert set(scores) == KEYS
    assert {k: v for k, v in scores.items() if k not in ("seconds", "n_images")} == {
        k: v for k, v in expected.summary().items() if k != "n_images"
    }
    assert scores["n_images"] == 2
    assert scores["n_true"] == 12 + 12 + 6
    assert scores["n_pred"] == 36
    assert scores["recall_50"] == 1
    assert scores["precision_50"] == pytest.approx(30 / 36)
    assert scores["ap50"] == pytest.approx(30 / 36)
    assert scores["seconds"] > 0
    assert counted == [(1, 2), (2, 2)]


def test_settings_reach_the_segmentation(service, add_model, pairs):
    add_model("m")
    scores = evaluate(service, pairs, "m", PredictConfig(min_size_px=10**6))
    assert (scores["n_pred"], scores["ap50"], scores["f1_50"], scores["iou"]) == (0, 0, 0, 0)


def test_nothing_to_find_and_nothing_found_is_perfect(service, add_model, tmp_path):
    add_model("m")
    tifffile.imwrite(tmp_path / "dark.tif", np.zeros((40, 50), np.uint8))
    write_labels(tmp_path / "empty.tif", np.zeros((40, 50), np.int32), "YX")
    scores = evaluate(service, [(tmp_path / "dark.tif", tmp_path / "empty.tif")], "m")
    assert (scores["map"], scores["seg"], scores["iou"], scores["pixel_error"]) == (1, 1, 1, 0)


def test_a_failure_names_the_image(service, add_model, pairs, tmp_path):
    add_model("m")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((72, 80), np.nan, np.float32))
    with pytest.raises(JobFailed, match=r"nan\.tif: the image holds no finite number"):
        evaluate(service, [(tmp_path / "nan.tif", pairs[0][1])], "m")
    with pytest.raises(ValueError, match="there is no model 'none'"):
        evaluate(service, pairs, "none")
