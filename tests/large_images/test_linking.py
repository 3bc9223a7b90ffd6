import numpy as np
import pytest
import zarr

from napari_unet.config import PredictConfig
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.large_images import job as volumes
from napari_unet.large_images.tasks import count_overlaps

SOON = 120.0
pytestmark = pytest.mark.usefixtures("small_pieces")


def config(link):
    return PredictConfig(device="cpu", precision="float32", tile_px=92, link=link)


@pytest.fixture
def model(add_model):
    return add_model("bright", normalisation={"low": 0.0, "high": 100.0})


@pytest.fixture
def movie(tmp_path, blobs):
    """(T, Z, Y, X) = (2, 4, 70, 100) in a store: cells that drift, on all planes but one."""
    planes = [blobs(seed, (70, 100))[0] for seed in range(8)]
    planes[2] = planes[2] // 8
    path = tmp_path / "movie.zarr"
    zarr.create_array(path, data=np.stack(planes).reshape(2, 4, 70, 100), chunks=(1, 1, 64, 64))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "link"),
    [("TZYX", "z"), ("TZYX", "t"), ("TZYX", "zt"), ("ZTYX", "zt"), ("TZXY", "zt")],
)
def test_objects_are_those_of_the_array(
    service, model, movie, tmp_path, axes, link, same_but_for_names
):
    data = zarr.open_array(movie)[:].transpose(["TZYX".index(axis) for axis in axes])
    path, out = tmp_path / "turned.zarr", tmp_path / "labels.zarr"
    zarr.save_array(path, data)
    expected = service.segment(data, axes, model, config(link)).wait(SOON)
    told = []
    job = service.segment_volume(path, out, model, config(link), axes)
    job.progressed.connect(lambda p: told.append(p.fraction))
    done = job.wait(SOON)
    labels = zarr.open_array(out / "0")[:]
    apart = service.segment(data, axes, model, config("none")).wait(SOON)
    assert 0 < expected.n_cells < apart.n_cells
    assert same_but_for_names(labels, expected.labels)
    assert np.array_equal(np.unique(labels), np.arange(done.n_cells + 1))
    assert (done.n_cells, done.diameter_px) == (expected.n_cells, expected.diameter_px)
    assert told == sorted(told)
    assert max(told) <= 1


@pytest.mark.slow
def test_levels_show_linked_cells(service, model, movie, tmp_path, monkeypatch):
    from napari_unet.io import ome_zarr as zarr_files

    for module in (zarr_files, volumes):
        monkeypatch.setattr(module, "CHUNK_PX", 64)
    out = tmp_path / "labels.zarr"
    service.segment_volume(movie, out, model, config("zt"), "TZYX").wait(SOON)
    fine, coarse = (zarr.open_array(out / str(level))[:] for level in (0, 1))
    np.testing.assert_array_equal(coarse, fine[..., ::2, ::2])


@pytest.mark.slow
def test_linking_goes_on_where_it_was_stopped(service, model, movie, tmp_path, monkeypatch):
    expected, out = tmp_path / "expected.zarr", tmp_path / "labels.zarr"
    service.segment_volume(movie, expected, model, config("zt"), "TZYX").wait(SOON)
    counted = []
    monkeypatch.setattr(
        "napari_unet.large_images.linking.count_overlaps",
        lambda plane, n, earlier: (
            counted.append((plane.index, n)),
            count_overlaps(plane, n, earlier),
        ),
    )
    for stop_at in (0.91, 0.94, 0.96, 0.99):
        job = service.segment_volume(movie, out, model, config("zt"), "TZYX")
        job.progressed.connect(lambda p, at=stop_at, job=job: p.fraction > at and job.cancel())
        with pytest.raises(JobCancelled):
            job.wait(SOON)
        assert not out.exists()
    service.segment_volume(movie, out, model, config("zt"), "TZYX").wait(SOON)
    np.testing.assert_array_equal(zarr.open_array(out / "0")[:], zarr.open_array(expected / "0")[:])
    assert len(counted) == len(set(counted)) == 8 * 4


def test_an_image_without_the_axis_is_refused(service, model, movie, tmp_path):
    job = service.segment_volume(movie, tmp_path / "labels.zarr", model, config("z"), "TCYX")
    with pytest.raises(JobFailed, match="linked along Z and the image has the axes TCYX"):
        job.wait(SOON)
    assert not (tmp_path / "labels.zarr.part").exists()
