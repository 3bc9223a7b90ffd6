import threading

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.config import PredictConfig
from napari_unet.io.images import list_images, read_image
from napari_unet.jobs import JobCancelled
from napari_unet.service.files import FileDone, FileJob, plan_files, summary

SOON = 60.0
EXACT = PredictConfig(device="cpu", precision="float32")


@pytest.fixture
def folder(tmp_path, blobs):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        iio.imwrite(folder / f"{name}.png", blobs(seed)[0])
    return folder


def test_all_are_done_and_told_in_order(service, add_model, folder, tmp_path):
    add_model("bright")
    files = plan_files(list_images([folder]), tmp_path / "out", table=True)
    told, seen = [], []
    job = service.segment_files(files, "bright", EXACT, told.append)
    job.progressed.connect(lambda progress: seen.append(progress))
    done = job.wait(SOON)
    assert list(done) == told
    assert [outcome.job for outcome in done] == files
    assert [outcome.error for outcome in done] == [""] * 3
    assert summary(done) == ""
    for outcome in done:
        assert tifffile.imread(outcome.job.labels).max() == outcome.n_cells == 12
        assert len(outcome.job.table.read_text().splitlines()) == 13
        assert outcome.seconds > 0
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert any(progress.message.startswith("b.png (2 of 3): ") for progress in seen)


def test_the_files_are_those_of_a_single_segmentation(service, add_model, folder, tmp_path):
    add_model("bright")
    (file,) = plan_files([folder / "b.png"], tmp_path / "out")
    service.segment_files([file], "bright", EXACT).wait(SOON)
    image = read_image(folder / "b.png")
    labels = service.segment(image.data, image.axes, "bright", EXACT).wait(SOON).labels
    np.testing.assert_array_equal(tifffile.imread(file.labels), labels)
    assert file.table is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b_labels.tif"]


def test_what_fails_is_told_and_the_rest_is_done(
    service, add_model, folder, tmp_path, monkeypatch, caplog
):
    add_model("bright")
    (folder / "a.png").write_bytes(b"broken")
    segment = service.servers.local.segment

    def fail(job, request):
        if request.image[0, 0] == read_image(folder / "b.png").data[0, 0]:
            raise RuntimeError("the device is gone")
        return segment(job, request)

    monkeypatch.setattr(service.servers.local, "segment", fail)
    pixels = iio.imread(folder / "b.png")
    pixels[0, 0] = 255
    iio.imwrite(folder / "b.png", pixels)
    files = plan_files(list_images([folder]), tmp_path / "out")
    a, b, c = service.segment_files(files, "bright", EXACT).wait(SOON)
    assert a.error.startswith(f"{folder / 'a.png'} cannot be read as an image")
    assert b.error == f"{folder / 'b.png'}: RuntimeError: the device is gone"
    assert "failed" in caplog.text
    assert (c.error, c.n_cells) == ("", 12)
    first, *lines = summary((a, b, c)).splitlines()
    assert first == "2 of 3 images failed; the others are done:"
    assert lines == [a.error, b.error]
    assert summary((a,)).startswith("1 of 1 images failed:")


def test_a_cancel_keeps_what_was_written(service, add_model, folder, tmp_path):
    add_model("bright")
    files = plan_files(list_images([folder]), tmp_path / "out")
    started, go_on = threading.Event(), threading.Event()

    def tell(done: FileDone) -> None:
        started.set()
        go_on.wait(SOON)

    job = service.segment_files(files, "bright", EXACT, tell)
    assert started.wait(SOON)
    job.cancel()
    go_on.set()
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_labels.tif"]


def test_where_things_go(tmp_path):
    a, b = tmp_path / "a.tif", tmp_path / "b.png"
    assert plan_files([a], tmp_path / "l.tif") == [FileJob(a, tmp_path / "l.tif")]
    out = tmp_path / "out"
    assert plan_files([a, b], out, table=True, axes="YX") == [
        FileJob(a, out / "a_labels.tif", out / "a_cells.csv", "YX"),
        FileJob(b, out / "b_labels.tif", out / "b_cells.csv", "YX"),
    ]
    with pytest.raises(ValueError, match="2 images and one file"):
        plan_files([a, b], tmp_path / "l.tif")
    with pytest.raises(ValueError, match="two images would go to"):
        plan_files([a, tmp_path / "a.png"], out)
    a.write_bytes(b"")
    with pytest.raises(ValueError, match="is one of the images"):
        plan_files([a], a)
