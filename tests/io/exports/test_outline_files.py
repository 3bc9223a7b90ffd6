"""Outlines as files, opened by the readers of the other programs, and read back by ours."""

import json
import zipfile

import geojson
import numpy as np
import pytest
import roifile
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from napari_unet.core.cells.polygons import fill
from napari_unet.io.exports.coco import write_coco
from napari_unet.io.exports.geojson import write_geojson
from napari_unet.io.exports.imagej import write_rois
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.image_source import ImageSource
from napari_unet.io.label_imports import read_label_file

AXES = st.sampled_from(["YX", "ZYX", "TYX", "TZYX", "XTY"])
# A cell with a hole, one in two pieces, one that touches itself at a corner, one pixel.
ODD = np.array(
    [
        [1, 1, 1, 0, 2, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 1, 1, 0, 2, 2],
        [0, 0, 3, 3, 0, 9],
        [0, 0, 3, 0, 3, 0],
        [0, 0, 3, 3, 3, 0],
    ],
    np.int32,
)


@st.composite
def labelled(draw):
    axes = draw(AXES)
    shape = tuple(draw(st.integers(1, 6 if axis in "YX" else 3)) for axis in axes)
    return draw(arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2, 70_000]))), axes


def of(labels, axes="YX", classes=None, **more):
    return Labelled(ImageSource(labels, axes), classes or {}, **more)


@pytest.mark.parametrize(("write", "name"), [(write_rois, "a.zip"), (write_geojson, "a.geojson")])
@given(labelled())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_labels_come_back(write, name, tmp_path, made):
    labels, axes = made
    write(tmp_path / name, of(labels, axes))
    again = read_label_file(tmp_path / name, labels.shape, axes)
    assert again.axes == axes
    np.testing.assert_array_equal(again.data, labels)


def test_roifile_opens_the_rois(tmp_path):
    write_rois(tmp_path / "a.zip", of(ODD, classes={2: "dividing"}))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["cell00001", "cell00002", "cell00003", "cell00009"]
    for roi, label in zip(rois, (1, 2, 3, 9), strict=True):
        box, mask = fill(roi.coordinates(multi=True), ODD.shape)
        found = np.zeros(ODD.shape, bool)
        found[box] = mask
        np.testing.assert_array_equal(found, label == ODD)
        rows, columns = np.nonzero(label == ODD)
        assert (roi.top, roi.left) == (rows.min(), columns.min())
        assert (roi.bottom, roi.right) == (rows.max() + 1, columns.max() + 1)
        assert roi.composite == (label != 9)
    assert rois[3].roitype == roifile.ROI_TYPE.TRACED
    assert rois[1].properties == {"label": 2, "class": "dividing"}


@pytest.mark.parametrize(
    ("axes", "shape", "places"),
    [
        # position, z, t
        ("YX", (2, 2), [(0, 0, 0)]),
        ("ZYX", (2, 2, 2), [(1, 0, 0), (2, 0, 0)]),
        ("TYX", (2, 2, 2), [(1, 0, 0), (2, 0, 0)]),
        ("TZYX", (2, 1, 2, 2), [(0, 1, 1), (0, 1, 2)]),
    ],
)
def test_rois_lie_on_their_planes(tmp_path, axes, shape, places):
    write_rois(tmp_path / "a.zip", of(np.ones(shape, np.int32), axes))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [(roi.position, roi.z_position, roi.t_position) for roi in rois] == places
    assert len({roi.name for roi in rois}) == len(rois)


@pytest.mark.parametrize("width", [40_000, 70_000])
def test_rois_far_to_the_right(tmp_path, width):
    labels = np.zeros((3, width), np.int32)
    labels[1, -5:-2] = 4
    labels[::2, -2] = 5
    write_rois(tmp_path / "a.zip", of(labels))
    one, two = roifile.roiread(tmp_path / "a.zip")
    assert one.coordinates().max(0).tolist() == [width - 2, 2]
    assert np.concatenate(two.coordinates(multi=True)).max(0).tolist() == [width - 1, 3]
    np.testing.assert_array_equal(read_label_file(tmp_path / "a.zip", (3, width)).data, labels)


@pytest.mark.parametrize("objects", ["detection", "annotation"])
def test_geojson_is_valid_and_as_qupath_wants_it(tmp_path, objects):
    path = tmp_path / "a.geojson"
    write_geojson(path, of(ODD, classes={2: "dividing"}, objects=objects))
    content = geojson.loads(path.read_text("utf-8"))
    assert isinstance(content, geojson.FeatureCollection)
    assert content.is_valid, content.errors()
    for feature, label in zip(content.features, (1, 2, 3, 9), strict=True):
        shape = shapely.from_geojson(json.dumps(feature.geometry))
        assert shape.is_valid
        assert shape.area == np.count_nonzero(label == ODD)
        assert feature.properties["objectType"] == objects
        assert feature.properties["measurements"] == {"label": label}
        assert "plane" not in feature.geometry
    classes = [feature.properties.get("classification") for feature in content.features]
    assert classes == [None, {"name": "dividing"}, None, None]
    kinds = [feature.geometry.type for feature in content.features]
    assert kinds == ["Polygon", "MultiPolygon", "Polygon", "Polygon"]


def test_geojson_of_no_cells_is_valid(tmp_path):
    write_geojson(tmp_path / "a.geojson", of(np.zeros((3, 3), np.int32)))
    content = geojson.loads((tmp_path / "a.geojson").read_text("utf-8"))
    assert content.is_valid
    assert content.features == []


def test_geojson_tells_the_plane(tmp_path):
    write_geojson(tmp_path / "a.geojson", of(np.ones((2, 1, 2, 2), np.int32), "TZYX"))
    content = json.loads((tmp_path / "a.geojson").read_text("utf-8"))
    planes = [feature["geometry"]["plane"] for feature in content["features"]]
    assert planes == [{"c": -1, "z": 0, "t": 0}, {"c": -1, "z": 0, "t": 1}]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@given(labelled())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pycocotools_finds_the_same_masks(tmp_path, capsys, made):
    labels, axes = made
    path = tmp_path / "a.json"
    classes = {2: "dividing"}
    write_coco(path, of(labels, axes, classes))
    coco = COCO(path)
    names = {category["name"]: number for number, category in coco.cats.items()}
    assert names == {"cell": 1, "dividing": 2}
    planes = list(of(labels, axes).planes())
    assert len(coco.imgs) == len(planes)
    for image, plane in zip(coco.loadImgs(coco.getImgIds()), planes, strict=True):
        assert (image["height"], image["width"]) == plane.labels.shape
        again = np.zeros_like(plane.labels)
        for one in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            again[coco.annToMask(one) == 1] = one["label"]
            run_length = coco.annToRLE(one)
            assert one["area"] == coco_mask.area(run_length)
            assert one["bbox"] == coco_mask.toBbox(run_length).tolist()
            assert sum(one["segmentation"]["counts"]) == plane.labels.size
            assert one["category_id"] == names[classes.get(one["label"], "cell")]
        np.testing.assert_array_equal(again, plane.labels)
    capsys.readouterr()


def test_coco_names_its_images(tmp_path):
    labels = np.ones((1, 2, 2, 2), np.int32)
    write_coco(tmp_path / "a.json", of(labels, "TZYX", name="movie.tif"))
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [
        "movie.tif_t000_z000",
        "movie.tif_t000_z001",
    ]
    assert [(image["t"], image["z"]) for image in images] == [(0, 0), (0, 1)]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"of yesterday")
    with pytest.raises(ValueError, match=r"go from -1 to 1"):
        write_rois(tmp_path / "a.zip", of(np.array([[1, -1]])))
    assert (tmp_path / "a.zip").read_bytes() == b"of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_the_zip_holds_only_rois(tmp_path):
    write_rois(tmp_path / "a.zip", of(ODD))
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert all(name.endswith(".roi") for name in file.namelist())
        assert file.testzip() is None
