import numpy as np
import pytest


@pytest.fixture
def service(store):
    from napari_unet.service.segmentation import SegmentationService

    service = SegmentationService(store)
    yield service
    service.close()


@pytest.fixture
def files_in():
    """Each file of a folder, with what is in it."""

    def files(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files


@pytest.fixture
def small_pieces(monkeypatch):
    """Large jobs come in pieces even where the image is small."""
    from napari_unet.service import large_plane, volumes

    monkeypatch.setattr(large_plane, "BLOCK_PX", 64)
    monkeypatch.setattr(volumes, "_GROUP_TILES", 9)


@pytest.fixture
def same_but_for_names():
    """Whether two labels differ in their ids alone."""

    def same(labels, expected):
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        once = all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
        return once and np.array_equal(labels > 0, expected > 0)

    return same
