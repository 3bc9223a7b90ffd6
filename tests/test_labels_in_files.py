"""`export_labels` and `read_labels` of the Python API."""

import csv

import numpy as np
import pytest
import tifffile

import napari_unet
from napari_unet.io.images import read_image

LABELS = np.zeros((2, 9, 12), np.int32)
LABELS[:, 1:4, 2:6] = 1
LABELS[1, 5:8, 1:3] = 2


@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.tif", "a.zarr"])
def test_there_and_back(tmp_path, name):
    path = str(tmp_path / name)
    napari_unet.export_labels(LABELS, path)
    found = napari_unet.read_labels(path, shape=LABELS.shape)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)


def test_a_mask_of_cellpose(tmp_path):
    np.save(tmp_path / "a_seg.npy", {"masks": LABELS.astype(np.uint16)})
    np.testing.assert_array_equal(napari_unet.read_labels(tmp_path / "a_seg.npy"), LABELS)


def test_sizes_go_along(tmp_path):
    napari_unet.export_labels(LABELS, tmp_path / "a.tif", axes="TYX", scale=(60, 0.5, 0.25))
    found = read_image(tmp_path / "a.tif")
    assert (found.axes, found.pixel_size_um, found.interval_s) == ("TYX", (0.5, 0.25), 60)


def test_a_table_of_an_image(tmp_path):
    napari_unet.export_labels(
        LABELS,
        tmp_path / "a.csv",
        image=np.stack((LABELS * 10, LABELS * 3), axis=1),
        image_axes="ZCYX",
        classes={2: "dividing"},
        scale=(1, 0.5, 0.5),
    )
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["unit"]) for row in rows] == [("", "um"), ("dividing", "um")]
    assert [row["intensity_mean_1"] for row in rows] == ["3", "6"]


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "a.zip").write_text("a year of work")
    with pytest.raises(ValueError, match=r"is there already, .*another name, or overwrite=True"):
        napari_unet.export_labels(LABELS, tmp_path / "a.zip")
    napari_unet.export_labels(LABELS, tmp_path / "a.zip", overwrite=True)
    assert napari_unet.read_labels(tmp_path / "a.zip", shape=LABELS.shape).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "roi"}, "there is no format 'roi'; give one of coco, ctc"),
        ({"format": "ctc"}, "tracks need a time axis T"),
        ({"scale": (1, 2)}, "the scale has 2 sizes and the labels have the axes ZYX"),
        ({"axes": "CYX"}, "labels have no channels"),
        ({"axes": "YX"}, "name 2 axes and the image has 3"),
    ],
)
def test_wrong_calls(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        napari_unet.export_labels(LABELS, tmp_path / "a.zip", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.json", "a.tif", "a.zarr", "a.csv"])
def test_labels_that_are_no_whole_numbers(tmp_path, name):
    with pytest.raises(ValueError, match="the labels are float64; give whole numbers"):
        napari_unet.export_labels(LABELS + 0.5, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_challenge(tmp_path):
    napari_unet.export_labels(LABELS, tmp_path / "RES", axes="TYX", format="ctc")
    assert (tmp_path / "RES" / "res_track.txt").read_text() == "1 0 1 0\n2 1 1 0\n"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "RES" / "mask001.tif"), LABELS[1])
