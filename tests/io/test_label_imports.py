import json
import zipfile

import imageio.v3 as iio
import numpy as np
import pytest
import roifile
import tifffile

from napari_unet.io.exports.geojson import write_geojson
from napari_unet.io.exports.imagej import write_rois
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.exports.stores import write_tif, write_zarr
from napari_unet.io.image_source import ImageSource
from napari_unet.io.label_imports import read_label_file, read_labels_of
from napari_unet.io.ome_zarr import create_labels

LABELS = np.zeros((9, 12), np.int32)
LABELS[1:4, 2:6] = 1
LABELS[5:8, 1:3] = 2


def rois(path, *given):
    with zipfile.ZipFile(path, "w") as file:
        for number, roi in enumerate(given):
            file.writestr(f"roi{number}.roi", roi.tobytes())


def polygon(points, **fields):
    roi = roifile.ImagejRoi.frompoints(points)
    roi.roitype = roifile.ROI_TYPE.POLYGON
    for name, value in fields.items():
        setattr(roi, name, value)
    return roi


def box(left, top, right, bottom, **fields):
    return roifile.ImagejRoi(
        left=left, top=top, right=right, bottom=bottom, roitype=roifile.ROI_TYPE.RECT, **fields
    )


def features(path, *geometries, as_list=False):
    made = [{"type": "Feature", "geometry": geometry} for geometry in geometries]
    path.write_text(
        json.dumps(made if as_list else {"type": "FeatureCollection", "features": made})
    )


def square(left, top, size=2):
    right, bottom = left + size, top + size
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


# images of labels


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.png", "a.npy"])
def test_images_of_labels(tmp_path, name):
    path = tmp_path / name
    source = ImageSource(LABELS, "YX", pixel_size_um=(0.5, 0.25))
    if name == "a.png":
        iio.imwrite(path, LABELS.astype(np.uint16))
    elif name == "a.npy":
        np.save(path, LABELS)
    else:
        (write_tif if name == "a.tif" else write_zarr)(path, Labelled(source))
    found = read_label_file(path)
    assert found.axes == "YX"
    np.testing.assert_array_equal(found.data, LABELS)
    if name in ("a.tif", "a.zarr"):
        assert found.pixel_size_um == (0.5, 0.25)
    assert read_label_file(path, (1, *LABELS.shape), "ZYX").data.shape == (1, *LABELS.shape)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_opens_the_labels(tmp_path, version):
    import zarr
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    source = ImageSource(LABELS[None], "TYX", pixel_size_um=(0.5, 0.25), interval_s=60.0)
    if version == "0.5":
        write_zarr(tmp_path / "a.zarr", Labelled(source))
    else:  # as it was written before
        sizes = (60.0, 0.5, 0.25), ("second", "micrometer", "micrometer")
        create_labels(tmp_path / "a.zarr", (1, *LABELS.shape), "TYX", *sizes)
        zarr.open(tmp_path / "a.zarr")["0"][...] = LABELS[None]
    location = parse_url(str(tmp_path / "a.zarr"))
    assert location.fmt.version == version
    (node, *_) = Reader(location)()
    np.testing.assert_array_equal(np.asarray(node.data[0]), LABELS[None])
    changes = node.metadata["coordinateTransformations"][0]
    assert changes[0]["scale"] == [60.0, 0.5, 0.25]
    found = read_label_file(tmp_path / "a.zarr")
    assert (found.axes, found.interval_s, found.pixel_size_um) == ("TYX", 60.0, (0.5, 0.25))
    np.testing.assert_array_equal(found.data, LABELS[None])


def test_labels_in_ome_zarr_have_few_files(tmp_path):
    import zarr

    labels = np.zeros((1500, 1100), np.int32)
    labels[1400:, 1000:] = 3
    write_zarr(tmp_path / "a.zarr", Labelled(ImageSource(labels, "YX")))
    array = zarr.open(tmp_path / "a.zarr", mode="r")["0"]
    assert (array.shards, array.chunks) == ((1024, 1024), (256, 256))
    np.testing.assert_array_equal(array[...], labels)
    # Those of four that hold a cell.
    assert len([p for p in (tmp_path / "a.zarr" / "0" / "c").rglob("*") if p.is_file()]) == 2


def test_axes_that_a_file_does_not_name(tmp_path):
    planes = np.stack([LABELS] * 5).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    assert read_label_file(tmp_path / "a.tif").axes == "ZYX"
    assert read_label_file(tmp_path / "a.tif", axes="TYX").axes == "TYX"
    write_tif(tmp_path / "b.tif", Labelled(ImageSource(np.stack([LABELS] * 3), "TYX")))
    assert read_label_file(tmp_path / "b.tif").axes == "TYX"


def test_labels_get_the_axes_and_sizes_of_their_image(tmp_path):
    np.save(tmp_path / "a.npy", LABELS[None])
    image = ImageSource(np.zeros((3, 9, 12)), "CYX", pixel_size_um=(0.5, 0.5))
    found = read_labels_of(tmp_path / "a.npy", image)
    assert (found.axes, found.pixel_size_um, found.data.shape) == ("YX", (0.5, 0.5), (9, 12))


# Cellpose


@pytest.mark.parametrize("shape", [(9, 12), (1, 9, 12)])
def test_masks_of_cellpose(tmp_path, shape):
    content = {"masks": LABELS.astype(np.uint16).reshape(shape), "filename": "a.tif", "flows": []}
    np.save(tmp_path / "a_seg.npy", content)
    np.testing.assert_array_equal(read_label_file(tmp_path / "a_seg.npy", (9, 12)).data, LABELS)
    assert read_label_file(tmp_path / "a_seg.npy").data.shape == shape


@pytest.mark.parametrize("content", [{"img": 1}, {"masks": "none"}, [1, 2], "text"])
def test_npy_without_masks(tmp_path, content):
    np.save(tmp_path / "a.npy", np.array(content, object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy: it holds no masks; give the _seg.npy"):
        read_label_file(tmp_path / "a.npy", (9, 12))


# ROIs of ImageJ


def test_rois_as_imagej_draws_them(tmp_path):
    oval = roifile.ImagejRoi(
        left=1, top=5, right=3, bottom=8, roitype=roifile.ROI_TYPE.OVAL
    )  # fmt: skip
    rois(tmp_path / "a.zip", box(2, 1, 6, 4), oval, polygon([[8.5, 0.4], [11.5, 0.4], [10, 3.6]]))
    found = np.asarray(read_label_file(tmp_path / "a.zip", LABELS.shape).data)
    np.testing.assert_array_equal(found == 1, LABELS == 1)
    assert (found[5:8, 1:3] == 2).sum() >= 4
    assert (found == 3).sum() == 6
    assert found.max() == 3


def test_one_roi_without_a_zip(tmp_path):
    (tmp_path / "a.roi").write_bytes(box(2, 1, 6, 4).tobytes())
    found = read_label_file(tmp_path / "a.roi", LABELS.shape).data
    np.testing.assert_array_equal(found, LABELS == 1)


def test_a_copy_of_an_roi_is_another_cell_and_new_ones_get_free_ids(tmp_path):
    label = {"props": "label: 7\n"}
    rois(tmp_path / "a.zip", box(0, 0, 2, 2, **label), box(4, 0, 6, 2, **label), box(8, 0, 9, 2))
    found = np.asarray(read_label_file(tmp_path / "a.zip", LABELS.shape).data)
    assert found[0].tolist() == [7, 7, 0, 0, 8, 8, 0, 0, 9, 0, 0, 0]


def test_the_later_outline_has_the_pixels(tmp_path):
    rois(tmp_path / "a.zip", box(0, 0, 4, 1), box(2, 0, 6, 1))
    found = np.asarray(read_label_file(tmp_path / "a.zip", LABELS.shape).data)
    assert found[0, :7].tolist() == [1, 1, 2, 2, 2, 2, 0]


@pytest.mark.parametrize(
    ("fields", "index"),
    [
        ({"position": 6}, (1, 2)),
        ({"t_position": 2, "z_position": 3}, (1, 2)),
        ({"t_position": 2, "z_position": 3, "c_position": 1, "position": 1}, (1, 2)),
    ],
)
def test_rois_of_a_stack(tmp_path, fields, index):
    rois(tmp_path / "a.zip", box(0, 0, 2, 2, **fields))
    found = np.asarray(read_label_file(tmp_path / "a.zip", (2, 3, 9, 12), "TZYX").data)
    assert found[index][0, 0] == 1
    assert np.count_nonzero(found) == 4


@pytest.mark.parametrize(
    ("roi", "shape", "message"),
    [
        (box(0, 0, 2, 2), (2, 9, 12), "roi0 does not tell its place along Z"),
        (box(0, 0, 2, 2, position=3), (2, 9, 12), "roi0 lies on T 1, and the image has 1"),
        (box(0, 0, 2, 2, z_position=3), (2, 9, 12), "roi0 lies on Z 2, and the image has 2"),
        (box(20, 0, 22, 2), (9, 12), r"roi0 lies outside of the image, which is 9 x 12"),
        (
            roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE),
            (9, 12),
            r"cannot be read as ROIs of ImageJ \(roi0 is a line and has no area; remove it\)",
        ),
    ],
)
def test_rois_that_do_not_fit(tmp_path, roi, shape, message):
    rois(tmp_path / "a.zip", roi)
    with pytest.raises(ValueError, match=rf"a.zip: .*{message}"):
        read_label_file(tmp_path / "a.zip", shape)


def test_a_zip_of_no_rois_holds_no_cells(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("notes.txt", "nothing")
        file.writestr("__MACOSX/._cell.roi", "nothing")
    assert not np.asarray(read_label_file(tmp_path / "a.zip", (9, 12)).data).any()


@pytest.mark.parametrize("name", ["a.zip", "a.roi", "a.geojson"])
@pytest.mark.parametrize("content", [b"", b"Iout", b"\x00" * 200, b"PK\x03\x04", b"{}", b"[1]"])
def test_files_of_something_else(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: it cannot be read as .*again"):
        read_label_file(tmp_path / name, (9, 12))


@pytest.mark.slow
def test_damaged_rois_are_an_error_or_harmless(tmp_path):
    content = polygon([[1, 1], [5, 1], [3, 4]], name="cell").tobytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(content)
        broken[int(rng.integers(len(content)))] = int(rng.integers(256))
        (tmp_path / "a.roi").write_bytes(broken)
        said = "a.roi"
        try:
            read_label_file(tmp_path / "a.roi", (9, 12))
        except ValueError as error:
            said = str(error)
        assert "a.roi" in said


# GeoJSON


@pytest.mark.parametrize("as_list", [False, True])
def test_geojson_with_holes_and_pieces(tmp_path, as_list):
    hole = {"type": "Polygon", "coordinates": [square(0, 0, 5), square(1, 1)]}
    pieces = {"type": "MultiPolygon", "coordinates": [[square(6, 0)], [square(9, 0)]]}
    features(tmp_path / "a.geojson", hole, None, pieces, as_list=as_list)
    found = np.asarray(read_label_file(tmp_path / "a.geojson", (9, 12)).data)
    assert found[1].tolist() == [1, 0, 0, 1, 1, 0, 2, 2, 0, 2, 2, 0]
    assert (found == 1).sum() == 21


@pytest.mark.parametrize(
    ("measurements", "label"),
    [({"label": 7.0}, 7), ([{"name": "label", "value": 7.0}], 1), (None, 1), ({"label": -7}, 1)],
)
def test_ids_that_qupath_kept(tmp_path, measurements, label):
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square(0, 0)]}}
    feature["properties"] = {"measurements": measurements}
    (tmp_path / "a.geojson").write_text(json.dumps([feature]), encoding="utf-8-sig")
    assert np.asarray(read_label_file(tmp_path / "a.geojson", (9, 12)).data).max() == label


def test_one_feature(tmp_path):
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square(0, 0)]}}
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    assert np.count_nonzero(read_label_file(tmp_path / "a.geojson", (9, 12)).data) == 4


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"type": "Point", "coordinates": [1, 2]}, "the feature 1 is a Point; give polygons"),
        ({"type": "Polygon", "coordinates": [[1, 2]]}, "cannot be read as GeoJSON"),
        ({"type": "Polygon"}, "it is no GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[np.nan, 0], [1, 1], [0, 1]]]}, "are no numbers"),
        ({"type": "Polygon", "coordinates": [square(30, 0)]}, "lies outside of the image"),
        (
            {"type": "Polygon", "coordinates": [square(0, 0)], "plane": {"z": 4}},
            "the feature 1 lies on Z 4, and the image has 1 there",
        ),
    ],
)
def test_geojson_that_does_not_fit(tmp_path, geometry, message):
    features(tmp_path / "a.geojson", geometry)
    with pytest.raises(ValueError, match=rf"a.geojson: .*{message}"):
        read_label_file(tmp_path / "a.geojson", (9, 12))


# all


@pytest.mark.parametrize("write", [write_rois, write_geojson])
def test_outlines_need_the_shape_of_the_image(tmp_path, write):
    path = tmp_path / ("a.zip" if write is write_rois else "a.geojson")
    write(path, Labelled(ImageSource(LABELS, "YX")))
    with pytest.raises(ValueError, match=f"{path.name}: it holds outlines, .* give its shape"):
        read_label_file(path)


@pytest.mark.parametrize("name", ["a.zip", "a.npy"])
def test_labels_have_no_channels(tmp_path, name):
    rois(tmp_path / "a.zip", box(0, 0, 2, 2))
    np.save(tmp_path / "a.npy", np.zeros((2, 9, 12), int))
    with pytest.raises(ValueError, match=f"{name}: labels have no channels, .* the axes CYX"):
        read_label_file(tmp_path / name, (2, 9, 12), "CYX")


@pytest.mark.parametrize("name", ["a.zip", "a.roi", "a.geojson", "a.npy", "a.tif"])
def test_files_that_are_not_there(tmp_path, name):
    with pytest.raises(ValueError, match=r"there is no .*file"):
        read_label_file(tmp_path / name, (9, 12))
