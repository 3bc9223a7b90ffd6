import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from napari_unet.config import PredictConfig
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.large_images import job as volumes
from napari_unet.segmentation.looking import Look

CONFIG = PredictConfig(
    device="cpu", precision="float32", tile_px=92, diameter_px=None, channel=None
)
SOON = 120.0
pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.fixture
def model(add_model):
    return add_model("bright")


@pytest.fixture
def image(tmp_path, blobs):
    """Channels last, three planes, in a store."""
    planes = np.stack([blobs(seed, (150, 200))[0] for seed in range(3)])
    path = tmp_path / "image.zarr"
    zarr.create_array(path, data=planes[..., None], chunks=(1, 64, 64, 1))
    return path


@pytest.fixture
def small(tmp_path, blobs):
    """Two planes, for tests of files and folders."""
    path = tmp_path / "small.zarr"
    zarr.create_array(path, data=np.stack([blobs(seed)[0] for seed in range(2)])[..., None])
    return path


@pytest.mark.slow
def test_a_store_gets_the_labels_that_the_array_gets(
    service, model, image, tmp_path, same_but_for_names
):
    expected = service.segment(zarr.open_array(image)[:], "ZYXC", model, CONFIG).wait(SOON)
    out = tmp_path / "labels.zarr"
    told = []
    job = service.segment_volume(image, out, model, CONFIG, "ZYXC")
    job.progressed.connect(lambda p: told.append(p.fraction))
    done = job.wait(SOON)
    group = zarr.open_group(out, mode="r")
    labels = group["0"][:]
    assert labels.dtype == np.int32
    assert expected.n_cells > 10
    assert same_but_for_names(labels, expected.labels)
    assert np.array_equal(np.unique(labels), np.arange(done.n_cells + 1))
    assert (done.n_cells, done.diameter_px) == (expected.n_cells, expected.diameter_px)
    assert told == sorted(told)
    assert not (tmp_path / "labels.zarr.part").exists()


def test_levels_of_the_pyramid_show_every_second_pixel(
    service, model, tmp_path, blobs, monkeypatch
):
    from napari_unet.io import ome_zarr as zarr_files

    for module in (zarr_files, volumes):
        monkeypatch.setattr(module, "CHUNK_PX", 64)
    path, out = tmp_path / "image.zarr", tmp_path / "labels.zarr"
    zarr.save_array(path, blobs(1, (150, 201))[0].T)
    service.segment_volume(path, out, model, CONFIG, "XY").wait(SOON)
    levels = [zarr.open_array(out / str(n)) for n in range(3)]
    assert [level.shape for level in levels] == [(201, 150), (101, 75), (51, 38)]
    assert levels[0][:].any()
    for coarse, fine in zip(levels[1:], levels, strict=False):
        np.testing.assert_array_equal(coarse[:], fine[::2, ::2])


@pytest.mark.slow
def test_a_job_that_was_stopped_goes_on_where_it_was(service, model, image, tmp_path, monkeypatch):
    expected = tmp_path / "expected.zarr"
    service.segment_volume(image, expected, model, CONFIG, "ZYXC").wait(SOON)
    scored = []
    score = volumes.score_tile
    monkeypatch.setattr(
        volumes, "score_tile", lambda plane, n: (scored.append((plane.index, n)), score(plane, n))
    )
    out = tmp_path / "labels.zarr"
    for stop_after in (1, 6, 30, 20, 5):
        job = service.segment_volume(image, out, model, CONFIG, "ZYXC")
        left = [stop_after]

        def count(progress, job=job, left=left):
            left[0] -= 1
            if left[0] < 0:
                job.cancel()

        job.progressed.connect(count)
        with pytest.raises(JobCancelled):
            job.wait(SOON)
        assert not out.exists()
    service.segment_volume(image, out, model, CONFIG, "ZYXC").wait(SOON)
    np.testing.assert_array_equal(zarr.open_array(out / "0")[:], zarr.open_array(expected / "0")[:])
    assert len(scored) == len(set(scored))


@pytest.mark.slow
def test_another_job_in_the_same_place_is_refused(service, model, image, tmp_path):
    out = tmp_path / "labels.zarr"
    job = service.segment_volume(image, out, model, CONFIG, "ZYXC")
    job.progressed.connect(lambda p: job.cancel() if p.message.startswith("segm") else None)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    other = PredictConfig(device="cpu", precision="float32", tile_px=92, min_size_px=90)
    with pytest.raises(JobFailed, match="was begun with another image, model or settings"):
        service.segment_volume(image, out, model, other, "ZYXC").wait(SOON)
    shutil.rmtree(tmp_path / "labels.zarr.part")
    service.segment_volume(image, out, model, other, "ZYXC").wait(SOON)
    first = zarr.open_array(out / "0")[:]
    # Done again, it takes the place of what was there.
    service.segment_volume(image, out, model, CONFIG, "ZYXC").wait(SOON)
    assert not np.array_equal(zarr.open_array(out / "0")[:], first)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_killed_process_costs_only_what_it_was_doing(
    service, model, image, tmp_path, same_but_for_names
):
    expected = tmp_path / "expected.zarr"
    service.segment_volume(image, expected, model, CONFIG, "ZYXC").wait(SOON)
    out = tmp_path / "labels.zarr"
    command = [
        sys.executable, "-m", "napari_unet.cli", "segment", str(image), "-o", str(out), "--axes",
        "ZYXC", "--model", str(model.path), "--tile", "92", "--device", "cpu", "--precision",
        "float32",
    ]  # fmt: skip
    marks = tmp_path / "labels.zarr.part"
    with subprocess.Popen(command) as process:
        for _ in range(600):
            if len(list(marks.glob("done-tile/*/*.npz"))) > 3:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    done = {path: path.stat().st_mtime_ns for path in marks.glob("done-tile/*/*.npz")}
    assert done
    assert subprocess.run(command, check=False, timeout=300).returncode == 0
    assert same_but_for_names(zarr.open_array(out / "0")[:], zarr.open_array(expected / "0")[:])
    assert not marks.exists()


@pytest.mark.slow
def test_one_channel_of_a_store_is_segmented(service, model, image, tmp_path):
    channels = tmp_path / "channels.zarr"
    planes = zarr.open_array(image)[..., 0]
    zarr.save_array(channels, np.stack([np.zeros_like(planes), planes], axis=1))
    config = PredictConfig(device="cpu", precision="float32", tile_px=92, channel=1)
    out, expected = tmp_path / "labels.zarr", tmp_path / "expected.zarr"
    service.segment_volume(channels, out, model, config, "ZCYX").wait(SOON)
    service.segment_volume(image, expected, model, CONFIG, "ZYXC").wait(SOON)
    np.testing.assert_array_equal(zarr.open_array(out / "0")[:], zarr.open_array(expected / "0")[:])


@pytest.mark.slow
def test_a_job_goes_on_with_the_tiles_and_the_size_that_it_began_with(
    service, model, image, tmp_path, monkeypatch
):
    config = PredictConfig(device="cpu", precision="float32", diameter_px="auto")
    expected, out = tmp_path / "expected.zarr", tmp_path / "labels.zarr"
    monkeypatch.setattr(volumes, "look", lambda *_: (Look(None, 20.0), None))
    monkeypatch.setattr(volumes, "default_tile_px", lambda *_: 108)
    service.segment_volume(image, expected, model, config, "ZYXC").wait(SOON)
    job = service.segment_volume(image, out, model, config, "ZYXC")
    job.progressed.connect(lambda p: job.cancel() if p.fraction > 0.3 else None)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    # As on a computer with another device.
    monkeypatch.setattr(volumes, "look", lambda *_: (Look(None, 99.0), None))
    monkeypatch.setattr(volumes, "default_tile_px", lambda *_: 92)
    service.segment_volume(image, out, model, config, "ZYXC").wait(SOON)
    np.testing.assert_array_equal(zarr.open_array(out / "0")[:], zarr.open_array(expected / "0")[:])


def test_what_is_not_ours_is_not_replaced(service, model, small, tmp_path, files_in):
    precious = tmp_path / "precious.zarr"
    zarr.save_array(precious, np.arange(100))
    (precious / "notes.txt").write_text("a year of work")
    before = files_in(tmp_path)
    with pytest.raises(JobFailed, match=r"precious.zarr is there already and was not made by nap"):
        service.segment_volume(small, precious, model, CONFIG, "ZYXC").wait(SOON)
    assert files_in(tmp_path) == before
    service.segment_volume(small, precious, model, CONFIG, "ZYXC", overwrite=True).wait(SOON)
    assert zarr.open_array(precious / "0")[:].any()
    # Labels of ours in which somebody keeps something else are not ours alone.
    (precious / "0" / "notes.txt").write_text("a year of work")
    before = files_in(tmp_path)
    with pytest.raises(JobFailed, match="was not made by napari-unet"):
        service.segment_volume(small, precious, model, CONFIG, "ZYXC").wait(SOON)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("ending", [".part", ".part.done"])
def test_a_folder_of_somebody_else_is_not_worked_in(
    service, model, image, tmp_path, files_in, ending
):
    other = tmp_path / f"labels.zarr{ending}"
    (other / "labels.zarr").mkdir(parents=True)
    (other / "labels.zarr" / "notes.txt").write_text("a year of work")
    before = files_in(tmp_path)
    with pytest.raises(JobFailed, match="holds something that napari-unet did not make"):
        service.segment_volume(image, tmp_path / "labels.zarr", model, CONFIG, "ZYXC").wait(SOON)
    assert files_in(tmp_path) == before


def test_another_image_at_the_same_path_is_measured_anew(service, model, small, tmp_path, blobs):
    out = tmp_path / "labels.zarr"
    first = service.segment_volume(small, out, model, CONFIG, "ZYXC").wait(SOON)
    pixels = zarr.open_array(small)[:]
    shutil.rmtree(small)
    zarr.save_array(small, pixels.astype(np.uint16) * 200)
    again = service.segment_volume(small, out, model, CONFIG, "ZYXC").wait(SOON)
    assert first.n_cells == again.n_cells > 10


def test_a_job_does_not_go_on_with_another_image(service, model, image, tmp_path):
    out = tmp_path / "labels.zarr"
    job = service.segment_volume(image, out, model, CONFIG, "ZYXC")
    job.progressed.connect(lambda p: job.cancel() if p.message.startswith("segm") else None)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    zarr.open_array(image)[:] = 0
    with pytest.raises(JobFailed, match="was begun with another image, model or settings"):
        service.segment_volume(image, out, model, CONFIG, "ZYXC").wait(SOON)


@pytest.mark.parametrize("moved", [False, True])
def test_a_kill_at_the_very_end_loses_nothing(service, model, small, tmp_path, moved):
    out = tmp_path / "labels.zarr"
    service.segment_volume(small, out, model, CONFIG, "ZYXC").wait(SOON)
    labels = zarr.open_array(out / "0")[:]
    done = tmp_path / "labels.zarr.part.done"
    done.mkdir()
    if not moved:
        out.rename(done / "labels.zarr")
    again = service.segment_volume(small, out, model, CONFIG, "ZYXC")
    again.wait(SOON)
    np.testing.assert_array_equal(zarr.open_array(out / "0")[:], labels)
    assert sorted(path.name for path in tmp_path.glob("labels*")) == ["labels.zarr"]
