import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr.writer import write_image

from napari_unet.io.images import list_images, read_image
from napari_unet.io.ome_zarr import StoredPixels, create_labels, open_zarr, pyramid


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 900, (2, 3, 40, 50)).astype(np.uint16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_the_reference_writes_is_opened(tmp_path, image, version):
    from ome_zarr.format import format_from_version

    path = tmp_path / "a.zarr"
    write_image(
        image,
        str(path),
        fmt=format_from_version(version),
        axes=[
            {"name": "t", "type": "time", "unit": "second"},
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        scale={"t": 2.0, "c": 1.0, "y": 0.5, "x": 0.25},
        scale_factors=[],
    )
    found = open_zarr(path)
    assert found.axes == "TCYX"
    assert found.scale == (2.0, 1.0, 0.5, 0.25)
    np.testing.assert_array_equal(found.data[:], image)


def test_a_plain_array_has_the_usual_axes_or_those_that_are_given(tmp_path, image):
    path = tmp_path / "a.zarr"
    zarr.save_array(path, image)
    assert open_zarr(path).axes == "TZYX"
    named = open_zarr(path, "tcyx")
    assert (named.axes, named.scale, named.pixel_size_um) == ("TCYX", (1.0,) * 4, None)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p.mkdir(), "cannot be read as zarr .*; give an OME-Zarr"),
        (lambda p: zarr.create_group(p), "it holds nothing"),
        (lambda p: zarr.create_group(p).create_array("raw", shape=(3, 3), dtype="u1"), "holds raw"),
        (lambda p: zarr.save_array(p, np.zeros(4)), "the image has 1 axes; name them"),
    ],
)
def test_what_is_no_image_is_told_in_a_sentence(tmp_path, make, sentence):
    path = tmp_path / "a.zarr"
    make(path)
    with pytest.raises(ValueError, match=sentence):
        open_zarr(path)


def test_stores_are_images_among_other_files(tmp_path, image):
    zarr.save_array(tmp_path / "a.zarr", image[0, 0])
    assert list_images([tmp_path]) == list_images([tmp_path / "a.zarr"]) == [tmp_path / "a.zarr"]
    read = read_image(tmp_path / "a.zarr")
    assert read.axes == "YX"
    assert isinstance(read.data, StoredPixels)


def test_the_reference_reads_our_labels(tmp_path):
    path = tmp_path / "labels.zarr"
    create_labels(path, (2, 1500, 2100), "ZYX", (2.0, 0.5, 0.5), ("micrometer",) * 3)
    (node,) = list(Reader(parse_url(path))())[:1]
    assert [level.shape for level in node.data] == pyramid((2, 1500, 2100), "ZYX")
    assert {level.dtype for level in node.data} == {np.dtype(np.int32)}
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    steps = [change[0]["scale"] for change in node.metadata["coordinateTransformations"]]
    assert steps == [[2.0, 0.5, 0.5], [2.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    assert open_zarr(path).scale == (2.0, 0.5, 0.5)
    assert open_zarr(path).pixel_size_um == (0.5, 0.5)


def test_pyramids_end_with_one_chunk():
    assert pyramid((1024, 1024), "YX") == [(1024, 1024)]
    assert pyramid((3, 2049, 100), "ZYX") == [(3, 2049, 100), (3, 1025, 50), (3, 513, 25)]
