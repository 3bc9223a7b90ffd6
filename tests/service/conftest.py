import pytest


@pytest.fixture
def service(store):
    from napari_unet.service.segmentation import SegmentationService

    service = SegmentationService(store)
    yield service
    service.close()
