import csv
import json

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.writer import write_image as write_image_store

from napari_unet.cli import main
from napari_unet.io.images import read_image, write_image, write_labels
from napari_unet.io.label_imports import read_label_file

LABELS = np.zeros((20, 24), np.int32)
LABELS[2:8, 2:8] = 1
LABELS[4:6, 4:6] = 0
LABELS[10:16, 10:20] = 2
MOVIE = np.stack([LABELS, LABELS])


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "cells_labels.tif"
    write_labels(path, LABELS, "YX", (0.5, 0.5))
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cells.tif"
    write_image(path, (LABELS * 40).astype(np.uint8), "YX", (0.5, 0.5))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.tif", "a.zarr"])
def test_there_and_back(call, labels, image, tmp_path, name):
    out = tmp_path / "new" / name
    assert call("export", labels, "-o", out) == (0, f"{labels} -> {out}\n", "")
    np.testing.assert_array_equal(read_label_file(out, LABELS.shape).data, LABELS)
    back = tmp_path / "back.tif"
    assert call("export", out, "--image", image, "-o", back)[0] == 0
    np.testing.assert_array_equal(tifffile.imread(back), LABELS)
    assert read_image(back).pixel_size_um == (0.5, 0.5)


def test_coco(call, labels, image, tmp_path):
    assert call("export", labels, "-o", tmp_path / "a.json", "--image", image)[0] == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": "cells.tif", "height": 20, "width": 24}]
    assert [one["area"] for one in content["annotations"]] == [32, 60]


def test_the_table_that_segment_writes_gives_the_classes(call, labels, image, tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("label,area,class\n1,9,dividing\n2,9,\n")
    for name in ("a.geojson", "a.csv"):
        out = tmp_path / name
        status, _, stderr = call("export", labels, "-o", out, "--classes", table, "--image", image)
        assert (status, stderr) == (0, "")
    one, two = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert one["properties"]["classification"] == {"name": "dividing"}
    assert "classification" not in two["properties"]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["dividing", ""]
    assert [row["intensity_mean"] for row in rows] == ["40", "80"]
    assert [(row["area"], row["unit"]) for row in rows] == [("8", "um"), ("15", "um")]


def test_a_table_without_an_image_tells_no_brightness(call, labels, tmp_path):
    assert call("export", labels, "-o", tmp_path / "a.csv")[0] == 0
    header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert header[:2] == ["label", "area"]
    assert not [name for name in header if name.startswith("intensity")]


def test_annotations_for_qupath(call, labels, tmp_path):
    assert call("export", labels, "-o", tmp_path / "a.geojson", "--objects", "annotation")[0] == 0
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert {one["properties"]["objectType"] for one in content["features"]} == {"annotation"}


@pytest.mark.parametrize(("form", "out"), [("tracks", "a.csv"), ("ctc", "RES")])
def test_movies(call, tmp_path, form, out):
    tifffile.imwrite(tmp_path / "m.tif", MOVIE.astype(np.uint16), photometric="minisblack")
    arguments = ("export", tmp_path / "m.tif", "-o", tmp_path / out, "--format", form)
    status, _, stderr = call(*arguments)
    assert status == 1
    assert "the labels have the axes ZYX and tracks need a time axis T" in stderr
    assert call(*arguments, "--axes", "tyx")[0] == 0
    if form == "ctc":
        assert (tmp_path / out / "res_track.txt").read_text() == "1 0 1 0\n2 0 1 0\n"
    else:
        assert (tmp_path / out).read_text().splitlines()[1].startswith("1,0,")


@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.json", "a.tif", "a.zarr", "a.csv"])
def test_what_is_there_is_replaced_only_if_asked_for(call, labels, tmp_path, name):
    out = tmp_path / name
    out.mkdir() if name == "a.zarr" else out.write_text("a year of work")
    status, stdout, stderr = call("export", labels, "-o", out)
    assert (status, stdout) == (2, "")
    assert stderr == (
        f"napari-unet: {out} is there already, so nothing was written; give another name, or add "
        "--overwrite\n"
    )
    if name != "a.zarr":
        assert out.read_text() == "a year of work"
    assert call("export", labels, "-o", out, "--overwrite")[0] == 0
    if name == "a.zarr":
        assert zarr.open(out, mode="r")["0"].shape == LABELS.shape
    else:
        assert out.read_bytes() != b"a year of work"


def test_labels_come_into_the_store_of_their_image(call, labels, tmp_path):
    store = tmp_path / "i.zarr"
    write_image_store(LABELS.astype(np.uint8), str(store), axes="yx", scale_factors=[])
    command = "export", labels, "-o", store, "--format", "image-zarr"
    assert call(*command)[0] == 0
    np.testing.assert_array_equal(zarr.open(store, mode="r")["labels/cells/0"][:], LABELS)
    status, _, stderr = call(*command)
    assert status == 2
    assert f"{store / 'labels' / 'cells'} is there already" in stderr


def test_what_is_wrong_is_said_in_one_sentence(call, labels, tmp_path):
    outlines = tmp_path / "a.zip"
    assert call("export", labels, "-o", outlines)[0] == 0
    (tmp_path / "b.csv").write_text("name\n1\n")
    (tmp_path / "c.csv").write_text("label,class\nx,dividing\n")
    (tmp_path / "d.npy").write_bytes(b"nothing")
    cases = [
        ((labels, "-o", tmp_path / "a.xyz"), "means no format; give one of .zip, .geojson"),
        ((labels, "-o", tmp_path / "RES"), "means no format"),
        ((outlines, "-o", tmp_path / "a.tif"), "--image on the command line"),
        ((tmp_path / "gone.tif", "-o", tmp_path / "a.tif"), "there is no file"),
        ((tmp_path / "d.npy", "-o", tmp_path / "a.tif"), "cannot be read as .npy"),
        ((labels, "-o", tmp_path / "a.tif", "--axes", "YXQ"), "the axes 'YXQ' name 3 axes"),
        ((labels, "-o", tmp_path / "a.tif", "--classes", tmp_path / "b.csv"), "has no columns"),
        ((labels, "-o", tmp_path / "a.tif", "--classes", tmp_path / "c.csv"), "no whole number"),
    ]
    for arguments, expected in cases:
        status, stdout, stderr = call("export", *arguments)
        assert (status, stdout) == (2 if "no format" in expected else 1, "")
        assert stderr.startswith("napari-unet: ")
        assert stderr.count("\n") == 1
        assert expected in stderr
    assert not (tmp_path / "a.tif").exists()


def test_a_format_that_is_not_known(labels, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(labels), "-o", "a.zip", "--format", "roi"])
    assert "invalid choice: 'roi'" in capsys.readouterr().err


# Labels of other programs, where a model learns and is scored.


@pytest.fixture
def pairs(tmp_path, blobs):
    """A folder of one image, and its labels."""
    pixels, truth = blobs()
    folder = tmp_path / "images"
    folder.mkdir()
    write_image(folder / "a.tif", pixels, "YX")
    return folder, truth


@pytest.mark.parametrize("name", ["a_seg.npy", "a_rois.zip", "a_RoiSet.zip", "a.geojson"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.usefixtures("nuclei")
def test_evaluate_takes_labels_of_other_programs(call, pairs, tmp_path, name, apart):
    images, truth = pairs
    folder = tmp_path / "labels" if apart else images
    write_labels(tmp_path / "a.tif", truth, "YX")
    if name.endswith(".npy"):
        folder.mkdir(exist_ok=True)
        np.save(folder / name, {"masks": truth.astype(np.uint16)})
    else:
        assert call("export", tmp_path / "a.tif", "-o", folder / name)[0] == 0
    status, stdout, stderr = call(
        *("evaluate", "--images", images, "--labels", folder, "--json", "--device", "cpu")
    )
    assert (status, stderr) == (0, "")
    assert json.loads(stdout)["n_true"] == truth.max()
    assert json.loads(stdout)["ap50"] == 1.0


@pytest.mark.slow
@pytest.mark.usefixtures("nuclei")
def test_train_takes_masks_of_cellpose(call, pairs):
    images, truth = pairs
    np.save(images / "a_seg.npy", {"masks": truth.astype(np.uint16)})
    status, stdout, stderr = call(
        *("train", "--images", images, "--labels", images, "--name", "mine", "--steps", "1"),
        *("--from", "nuclei", "--device", "cpu"),
    )
    assert status == 0, stderr
    assert "mine@1: 1 steps" in stdout
