"""Labels in the OME-Zarr of their image, read by ome-zarr."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from ome_zarr.format import format_from_version
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Reader
from ome_zarr.writer import write_image

from napari_unet.api import export_labels
from napari_unet.io.label_stores import holds_labels
from napari_unet.io.outputs import NotOursError
from napari_unet.service.exports import ExistsError

LABELS = np.zeros((2, 1100, 48), np.int32)
LABELS[1, 5:30, 7:40], LABELS[0, 1050:1090, 8:48] = 3, 70_000


@pytest.fixture(params=["0.4", "0.5"])
def image(request, tmp_path):
    path = tmp_path / "i.zarr"
    write_image(
        np.zeros((2, 2, 1100, 48), np.uint8),
        str(path),
        fmt=format_from_version(request.param),
        axes=[{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")],
        scale={"c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25},
        scale_factors=[],
    )
    return path


def nodes_of(path):
    return list(Reader(parse_url(path, mode="r"))())


def test_ome_zarr_finds_the_labels_of_the_image(image):
    before = {p: p.read_bytes() for p in image.rglob("*") if p.is_file()}
    export_labels(LABELS, image, format="image-zarr")
    found = [node for node in nodes_of(image) if node.load(Label) is not None]
    assert len(found) == 1
    pixels = [np.asarray(level) for level in found[0].data]
    np.testing.assert_array_equal(pixels[0], LABELS)
    assert pixels[1].shape == (2, 550, 24)
    (changes, *_) = found[0].metadata["coordinateTransformations"]
    assert changes[0]["scale"] == [2.0, 0.5, 0.25]
    assert holds_labels(image / "labels" / "cells")
    # Nothing of the image was touched.
    assert {path: path.read_bytes() for path in before} == before
    array = zarr.open(image / "labels" / "cells", mode="r")["0"]
    if array.metadata.zarr_format == 3:
        assert (array.shards, array.chunks) == ((1, 1024, 1024), (1, 256, 256))
        ome = json.loads((image / "labels" / "zarr.json").read_text())["attributes"]["ome"]
        assert ome == {"version": "0.5", "labels": ["cells"]}
    with pytest.raises(ExistsError, match="cells is there already"):
        export_labels(LABELS, image, format="image-zarr")
    export_labels(LABELS // 3, image, format="image-zarr", overwrite=True)
    np.testing.assert_array_equal(array[...], LABELS // 3)
    assert not list(image.rglob("*.part"))


def test_other_labels_stay(image):
    labels = zarr.open_group(image, mode="r+").create_group("labels")
    labels.attrs["labels"] = ["mine"]
    labels.attrs["ome"] = {"version": "0.5", "labels": ["mine"]}
    export_labels(LABELS, image, format="image-zarr")
    attributes = dict(zarr.open_group(image / "labels", mode="r").attrs)
    is_new = zarr.open_group(image, mode="r").metadata.zarr_format == 3
    listed = (attributes["ome"] if is_new else attributes)["labels"]
    assert listed == ["mine", "cells"]
    # Not even where they have the name that ours get.
    group = zarr.open_group(image / "labels" / "cells", mode="r+")
    group.attrs.pop("napari-unet")
    with pytest.raises(NotOursError):
        export_labels(LABELS, image, format="image-zarr", overwrite=True)


def test_what_does_not_fit_is_one_sentence(image, tmp_path):
    with pytest.raises(
        ValueError, match=r"the labels are .* \(YX\) and the image i\.zarr is .*ZYX"
    ):
        export_labels(LABELS[0], image, format="image-zarr")
    with pytest.raises(ValueError, match="cannot be read as zarr"):
        export_labels(LABELS, tmp_path / "none.zarr", format="image-zarr")
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="is no image in OME-Zarr"):
        export_labels(np.zeros((3, 4), int), tmp_path / "a.zarr", format="image-zarr")
    assert not (image / "labels" / "cells").exists()
