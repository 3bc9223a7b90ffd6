"""The weights that ship, on a real image that lies on the disk with scikit-image."""

import numpy as np
import pytest
from skimage import data

from napari_unet.config import PredictConfig
from napari_unet.models.store import SHIPPED, ModelStore
from napari_unet.service.segmentation import SegmentationService

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "nuclei.safetensors").exists(), reason="no weights here"
)


@pytest.fixture
def service(tmp_path):
    service = SegmentationService(ModelStore(tmp_path))
    yield service
    service.close()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_labels_do_not_depend_on_the_tile(service, precision):
    image = data.immunohistochemistry()
    labels = [
        service.segment(image, "YXC", "nuclei", PredictConfig(tile_px=tile, precision=precision))
        .wait()
        .labels
        for tile in (284, 1020)
    ]
    assert labels[0].max() > 100
    np.testing.assert_array_equal(labels[1], labels[0])


@pytest.mark.slow
def test_the_size_of_nuclei_is_told_from_the_image(service):
    image = data.immunohistochemistry()[:400, :400]
    large = np.kron(image, np.ones((3, 3, 1), np.uint8))
    one, three = (
        service.guess_diameter(each, "YXC", "nuclei", (), PredictConfig()).wait()
        for each in (image, large)
    )
    assert 6 < one < 20
    assert three == pytest.approx(3 * one, rel=0.4)


def test_the_file_is_small_and_says_what_it_learnt_from(service):
    model = service.store.find("nuclei")
    assert model.shipped
    assert model.path.stat().st_size < 20e6
    assert "CC0" in model.header.trained_on[0]
    assert model.header.steps == 52_500
    assert model.header.parent is None


def test_a_model_for_phase_contrast_ships_too(service):
    model = service.store.find("phase")
    assert model.path.stat().st_size < 20e6
    assert "MIT" in model.header.trained_on[1]
    assert model.header.zoom == 0.5
