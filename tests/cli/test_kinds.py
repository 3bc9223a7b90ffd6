"""Files of every kind go through `napari-unet segment`, and get the labels of their planes."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tifffile

import napari_unet
from napari_unet.cli import main
from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane, label_axes, plane_indices, planes_last

SIZES = {"T": 2, "Z": 3, "Y": 40, "X": 56}
# Axes, number of channels, the one that is asked for.
LAYOUTS = (
    ("YXC", 3, None),
    ("YX", 0, None),
    ("ZYX", 0, None),
    ("TYX", 0, None),
    ("TZYX", 0, None),
    ("CYX", 3, 1),
    ("CYX", 2, 1),
    ("CYX", 8, 0),
    ("ZCYX", 5, 4),
    ("TZCYX", 2, 1),
    ("YXC", 5, 2),
    ("YXZ", 0, None),
)
DTYPES = ("uint8", "uint16", "float32", "float64", "int16", "int64")
ROWS = [(*layout, DTYPES[n % 6]) for n, (_, layout) in enumerate(product(range(2), LAYOUTS))]
# The second time with other types.
ROWS = [row if n < 12 else (*row[:3], DTYPES[(n + 1) % 6]) for n, row in enumerate(ROWS)]


@pytest.fixture(autouse=True)
def model(add_model):
    return add_model("nuclei", normalisation={"low": 0.0, "high": 100.0})


def draw(axes, channels, dtype):
    rng = np.random.default_rng(len(axes) + channels)
    letters = [axis for axis in axes if axis not in "YX"]
    last = rng.uniform(0, 0.2, [*(SIZES.get(axis, channels) for axis in letters), 40, 56])
    y, x = np.mgrid[:40, :56]
    for index in np.ndindex(*last.shape[:-2]):
        for cy, cx in zip((10, 28), rng.integers(10, 46, 2), strict=True):
            last[index][(y - cy) ** 2 + (x - cx) ** 2 <= 25] = 0.9
    image = last.transpose([[*letters, "Y", "X"].index(axis) for axis in axes])
    return np.ascontiguousarray(image if dtype[0] == "f" else image * 200).astype(dtype)


@pytest.mark.parametrize(("axes", "channels", "channel", "dtype"), ROWS)
def test_every_kind_of_file(axes, channels, channel, dtype, model, tmp_path, capsys):
    image = draw(axes, channels, dtype)
    path, out = tmp_path / "image.tif", tmp_path / "labels.tif"
    rgb = "rgb" if (axes, channels) == ("YXC", 3) else "minisblack"
    tifffile.imwrite(path, image, photometric=rgb, metadata={"axes": axes})
    given = [] if channel is None else ["--channel", str(channel)]
    call = ["segment", str(path), "-o", str(out), "--axes", axes, "--json", *given]
    assert main(call) == 0, capsys.readouterr().err
    found = planes_last(tifffile.imread(out), label_axes(axes))
    count, config = 0, PredictConfig(channel=channel)
    for index in plane_indices(axes, image.shape):
        plane = get_plane(image, axes, index)
        # A colour picture has its colours last.
        one = np.moveaxis(plane, 0, -1) if rgb == "rgb" else plane
        named = "YXC" if rgb == "rgb" else "CYX"
        alone = napari_unet.segment(one, model.path, axes=named, config=config)
        np.testing.assert_array_equal(found[index], np.where(alone, alone + count, 0))
        count += int(alone.max())
    assert count >= 2
    assert json.loads(capsys.readouterr().out)["n_cells"] == count


def test_channels_that_do_not_fit(tmp_path, capsys):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, draw("CYX", 5, "uint8"), photometric="minisblack")
    call = ["segment", str(path), "-o", str(tmp_path / "out.tif"), "--axes", "CYX"]
    assert main(call) == 1
    error = capsys.readouterr().err
    assert f"{path}: the image has 5 separate channels; choose the one that shows" in error
    assert "with --channel 0 to 4" in error
    assert main([*call, "--channel", "5"]) == 1
    assert "give one from 0 to 4" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([*call, "--channel", "-1"])
    assert stop.value.code == 2
    assert "give 0 or more, not -1" in capsys.readouterr().err


def test_evaluate_sees_the_same_channel(tmp_path, capsys):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    image = draw("CYX", 4, "uint8")
    tifffile.imwrite(images / "a.tif", image, photometric="minisblack", metadata={"axes": "CYX"})
    truth = napari_unet.segment(image[2], napari_unet.load_model("nuclei"))
    tifffile.imwrite(labels / "a.tif", truth.astype(np.uint16))
    scores = []
    for channel in ("2", "1"):
        call = ["evaluate", "--images", str(images), "--labels", str(labels), "--json"]
        assert main([*call, "--channel", channel]) == 0
        scores.append(json.loads(capsys.readouterr().out)["f1_50"])
    assert scores[0] == 1.0
    assert scores[1] < 1.0


def test_stacks_in_3d_at_the_distance_of_the_planes_that_the_file_says(tmp_path, capsys, model):
    image = np.zeros((12, 60, 60), np.uint8)
    image[2:10, 20:36, 20:36] = 200
    image[4:7, 50:53, 50:53] = 200
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 1.5},
    )
    exact = ("--device", "cpu", "--precision", "float32", "--in-3d")
    call = ["segment", str(tmp_path / "a.tif"), "-o", str(tmp_path / "b.tif"), *exact]
    assert main([*call, "--table"]) == 0
    config = PredictConfig(device="cpu", precision="float32", in_3d=True, anisotropy=3.0)
    here = napari_unet.segment(image, model, config=config)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), here)
    assert here.max() == 2
    other = napari_unet.segment(image, model, config=replace(config, anisotropy=1.0))
    assert other.max() == 1, "fewer voxels than the smallest cell"
    header, *cells = (tmp_path / "a_cells.csv").read_text().splitlines()
    assert len(cells) == 2
    assert "volume" in header
    assert main([*call, "--anisotropy", "1"]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), other)
    capsys.readouterr()
    call.remove("--in-3d")
    assert main([*call, "--anisotropy", "1"]) == 2
    assert "--anisotropy is for stacks; give --in-3d as well" in capsys.readouterr().err
