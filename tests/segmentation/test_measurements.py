import csv
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.cells.properties import SHAPE
from napari_unet.segmentation import measurements
from napari_unet.segmentation.measurements import measure, write_table


def rectangle(top, left, height, width, shape=(20, 30)):
    mask = np.zeros(shape, np.int32)
    mask[top : top + height, left : left + width] = 1
    return mask


def test_a_plane():
    labels = rectangle(2, 3, 4, 10) * 7 + rectangle(10, 20, 5, 5) * 3
    image = np.zeros(labels.shape, np.uint8)
    image[2:6, 3:13] = 50
    image[2, 3] = 90
    found = measure(labels, image, "YX")
    assert found["label"].tolist() == [3, 7]
    assert found["area"].tolist() == [25, 40]
    assert found["centroid_y"].tolist() == [12, 3.5]
    assert found["centroid_x"].tolist() == [22, 7.5]
    assert found["intensity_mean"].tolist() == [0, 51]
    assert found["intensity_max"].tolist() == [0, 90]
    assert found["intensity_min"].tolist() == [0, 50]
    assert found["equivalent_diameter"][0] == pytest.approx(np.sqrt(100 / np.pi))
    assert found["axis_major_length"][1] > 2 * found["axis_minor_length"][1]
    assert found["solidity"].tolist() == pytest.approx([1, 1])
    assert found["perimeter"][0] == pytest.approx(16, abs=1)
    assert not {"t", "z", "z_first", "volume", "centroid_z"} & set(found)


def test_lengths_have_the_unit_of_the_scale():
    labels = rectangle(2, 3, 4, 10)
    plain, scaled = (measure(labels, labels, "YX", scale) for scale in (None, (0.5, 0.5)))
    for name, power in {"area": 2, "centroid_y": 1, "axis_major_length": 1, "perimeter": 1}.items():
        assert scaled[name] == pytest.approx(plain[name] * 0.5**power)
    assert scaled["eccentricity"] == pytest.approx(plain["eccentricity"])
    oblong = measure(labels, labels, "YX", (0.5, 0.25))
    assert oblong["area"].tolist() == [5]
    assert np.isnan(oblong["perimeter"]).all(), "it is not defined there"


def test_cells_of_a_stack_know_their_plane():
    labels = np.stack([rectangle(2, 3, 4, 10), rectangle(3, 3, 2, 10) * 2])[:, None]
    found = measure(labels, labels, "TZYX", (1, 3, 1, 1))
    assert found["t"].tolist() == [0, 1]
    assert found["z"].tolist() == [0, 0]
    assert found["area"].tolist() == [40, 20]
    assert found["centroid_z"].tolist() == [0, 0]
    assert "volume" not in found


def test_linked_cells_have_a_volume_and_a_range():
    labels = np.stack([rectangle(2, 3, 4, 10), rectangle(3, 3, 2, 10), rectangle(9, 9, 1, 1) * 2])
    told = []
    scale = (2.0, 0.5, 0.5)
    found = measure(labels, labels * 10, "ZYX", scale, progress=lambda *now: told.append(now))
    assert told == [
        (pytest.approx((n + row / 20) / 3), f"measuring cells, plane {n + 1} of 3")
        for n, row in enumerate((2, 3, 9))
    ]
    assert found["label"].tolist() == [1, 2]
    assert found["z_first"].tolist() == [0, 2]
    assert found["z_last"].tolist() == [1, 2]
    assert found["volume"].tolist() == [60 * 0.5, 0.5]
    assert found["centroid_z"] == pytest.approx([2 * 20 / 60, 4])
    assert found["equivalent_diameter"] == pytest.approx(np.cbrt(6 / np.pi * found["volume"]))
    assert found["intensity_mean"].tolist() == [10, 20]
    assert np.isnan([found[name][0] for name in SHAPE]).all()
    assert found["eccentricity"][1] == 0
    assert "area" not in found


def test_cells_that_were_followed_have_their_mean_area():
    labels = np.stack([rectangle(2, 3, 4, 10), rectangle(0, 0, 0, 0), rectangle(3, 3, 2, 10)])
    found = measure(labels, labels, "TYX")
    assert (found["t_first"].tolist(), found["t_last"].tolist()) == ([0], [2])
    assert found["area"].tolist() == [30]


def test_each_channel_is_measured():
    labels = rectangle(2, 3, 4, 10)
    image = np.stack([labels * 5, labels * 9.5])
    found = measure(labels, image, "CYX")
    assert found["intensity_mean_0"].tolist() == [5]
    assert found["intensity_max_1"].tolist() == [9.5]
    same = measure(labels.T, image.transpose(2, 0, 1), "XCY", (1, 2))
    assert same["centroid_y"] == pytest.approx(2 * found["centroid_y"])
    empty = measure(labels * 0, image, "CYX")
    assert list(empty) == list(found)
    assert all(len(column) == 0 for column in empty.values())


@given(hnp.arrays(np.int32, (2, 6, 7), elements=st.sampled_from([0, 1, 2, 5, 2**31 - 1])))
def test_every_pixel_is_in_one_cell(labels):
    found = measure(labels, labels, "ZYX")
    assert found["label"].tolist() == np.unique(labels[labels > 0]).tolist()
    size = found.get("area", found.get("volume"))
    assert size.tolist() == [(labels == cell).sum() for cell in found["label"]]
    assert found["intensity_mean"] == pytest.approx(found["label"])


def test_a_plane_may_be_measured_in_parts(blobs, monkeypatch):
    labels = blobs(0)[1]
    whole = measure(labels, labels * 2, "YX")
    monkeypatch.setattr(measurements, "_READ_PX", 7 * labels.shape[1])
    monkeypatch.setattr(measurements, "_BAND_PX", 3 * labels.shape[1])
    parts = measure(labels, labels * 2, "YX")
    assert list(parts) == list(whole)
    for name, column in whole.items():
        np.testing.assert_allclose(parts[name], column, err_msg=name)


def test_only_planes_are_read(blobs):
    asked = []

    class Lazy:
        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __getitem__(self, key):
            asked.append(key)
            return self.array[key]

    stack = np.stack([blobs(seed)[1] for seed in range(3)])
    found = measure(Lazy(stack), Lazy(stack), "TYX")
    assert len(found["label"]) == stack.max()
    assert all(isinstance(key[0], int) for key in asked)


@pytest.mark.parametrize(
    ("labels", "axes", "scale", "words"),
    [
        (np.zeros((3, 4), int), "YX", None, r"labels are \(3, 4\) and the image is \(4, 4\)"),
        (np.full((4, 4), 0.5), "YX", None, "the labels are float64; give whole numbers"),
        (-np.ones((4, 4), int), "YX", None, "the labels go from -1"),
        (np.zeros((4, 4), int), "YX", (1,), "give one size above 0"),
        (np.zeros((4, 4), int), "YX", (1, 0), "give one size above 0"),
        (np.zeros((4, 4), int), "ZYX", None, "name 3 axes and the image has 2"),
    ],
)
def test_what_does_not_fit_is_refused(labels, axes, scale, words):
    with pytest.raises(ValueError, match=words):
        measure(labels, np.zeros((4, 4)), axes, scale)


def test_a_table_is_a_csv_file(tmp_path):
    path = tmp_path / "new" / "cells.csv"
    names = np.array(['a "b", c', "d"], object)
    write_table(path, {"label": np.array([1, 2**31 - 1]), "x": [0.1, np.nan], "class": names})
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["label", "x", "class"],
        ["1", "0.1", 'a "b", c'],
        ["2147483647", "", "d"],
    ]


def test_measuring_takes_few_bytes_a_pixel():
    labels = np.zeros((2000, 2000), np.int32)
    labels[5:20, 5:1000], labels[900:990, 30:60] = 1, 2
    image = np.ones(labels.shape, np.uint16)
    tracemalloc.start()
    try:
        measure(labels, image, "YX")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * labels.size
