"""A stranger's file, array or label image: read right, or refused in one sentence."""

import dataclasses
import json
import os
import struct
import zlib
from itertools import product

import imageio.v3 as iio
import numpy as np
import pytest
import skimage.data
import tifffile
import zarr

import napari_unet
from napari_unet import api
from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.io.images import read_image
from napari_unet.io.ome_zarr import open_zarr
from napari_unet.jobs import JobFailed

EXACT = ("--device", "cpu", "--precision", "float32")
CONFIG = PredictConfig(device="cpu", precision="float32")
N_CELLS = 12


@pytest.fixture(autouse=True)
def nuclei(add_model):
    """A model of 3 channels, as the one that ships, for which cells are what is bright."""
    api._service.cache_clear()
    yield add_model("nuclei", in_channels=3, normalisation={"low": 0.0, "high": 100.0})
    api._service().close()
    api._service.cache_clear()


@pytest.fixture
def image(blobs):
    return blobs()[0]


@pytest.fixture
def labels(blobs):
    return blobs()[1]


@pytest.fixture
def plain(image):
    """The labels that the grey picture gets."""
    found = napari_unet.segment(image, config=CONFIG)
    assert found.max() == N_CELLS
    return found


@pytest.fixture
def segment(call, tmp_path):
    """Segments a file into a tif: (labels, what was said)."""

    def segment(path, *options):
        out = tmp_path / "out.tif"
        status, _, said = call("segment", path, "-o", out, *EXACT, *options)
        assert status == 0, said
        return tifffile.imread(out), said

    return segment


@pytest.fixture
def refused(call, tmp_path):
    """What is said of a file that is not segmented: one line."""

    def refused(path, *options, out="out.tif", status=1):
        found, _, said = call("segment", path, "-o", tmp_path / out, *EXACT, *options)
        assert found == status
        (line,) = said.splitlines()
        assert line.startswith(f"napari-unet: {path}")
        assert "Error" not in line
        return line

    return refused


def noise(image, seed):
    return np.random.default_rng(seed).poisson(8, image.shape).astype(np.uint8)


def channels(image, count=3):
    """So many channels, of which the last one shows cells."""
    return np.stack([*(noise(image, n) for n in range(count - 1)), image])


def ome_zarr(path, data, axes, scale, unit="micrometer", version="0.4", **more):
    """An OME-Zarr image; `more` goes into its entry of multiscales."""
    kinds = {"t": "time", "c": "channel"}
    units = {"t": {"unit": "second"}, "c": {}}
    named = [
        {"name": a, "type": kinds.get(a, "space"), **units.get(a, {"unit": unit})} for a in axes
    ]
    group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=data, chunks=tuple(min(50, n) for n in data.shape))
    of_level = [{"type": "scale", "scale": scale}, *more.pop("of_level", [])]
    level = {"path": "0", "coordinateTransformations": of_level}
    images = [{"version": version, "axes": named, "datasets": [level], **more}]
    group.attrs.update(
        {"multiscales": images} if version == "0.4" else {"ome": {"multiscales": images}}
    )
    return group


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("predictor", [False, True])
def test_tifs_of_every_compression(tmp_path, image, compression, predictor):
    if predictor and compression in ("packbits", "lzma"):
        pytest.skip("is written without")
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, image, compression=compression, predictor=predictor)
    np.testing.assert_array_equal(read_image(path).data, image)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_tifs_of_slides(tmp_path, image, compression, segment, plain):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.dstack([image] * 3), compression=compression, photometric="rgb")
    assert read_image(path).is_colour
    assert segment(path)[0].max() == N_CELLS


def test_a_compression_that_cannot_be_read_is_told_with_what_helps(
    tmp_path, image, refused, monkeypatch
):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, image, compression="lzw")

    def lacking(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lacking)
    line = refused(path)
    assert "run: pip install imagecodecs" in line
    assert "save it as tif" not in line


def test_a_thumbnail_is_not_the_image(tmp_path, image, plain, segment):
    path = tmp_path / "i.tif"
    for flags in ((1, 0), (0, 0), (0, 1)):
        pictures = [image[::8, ::8].copy(), image]
        if flags == (0, 1):
            pictures.reverse()
        with tifffile.TiffWriter(path) as tif:
            for picture, flag in zip(pictures, flags, strict=True):
                tif.write(picture, subfiletype=flag, metadata=None)
        found, said = segment(path)
        np.testing.assert_array_equal(found, plain)
        # What is marked as reduced is no image of its own.
        assert ("holds 2 images and the largest, 1, was taken" in said) == (flags == (0, 0))


def test_pyramids_are_read_at_their_finest(tmp_path, image):
    path = tmp_path / "i.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(image, subifds=2, metadata={"axes": "YX"})
        tif.write(image[::2, ::2].copy(), subfiletype=1)
        tif.write(image[::4, ::4].copy(), subfiletype=1)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, image)
    assert read.notes == ()


def test_of_several_positions_one_is_taken_and_it_is_said_how_to_take_another(
    tmp_path, image, plain, segment, refused
):
    path = tmp_path / "i.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        for name, one in {"one": image, "two": image[::-1]}.items():
            size = {"PhysicalSizeX": 0.5 if name == "one" else 2, "PhysicalSizeY": 1}
            tif.write(one.copy(), metadata={"axes": "YX", "Name": name, **size})
    found, said = segment(path)
    np.testing.assert_array_equal(found, plain)
    assert "holds 2 images and the first, 0 (one), was taken; --series N takes another" in said
    found, said = segment(path, "--series", 1)
    np.testing.assert_array_equal(found > 0, plain[::-1] > 0)
    assert said == ""
    assert read_image(path, series=1).pixel_size_um == (1, 2)
    assert "image 2 is asked for and there are 2; give --series 0 to 1" in refused(
        path, "--series", 2
    )


def test_min_is_white(tmp_path, image):
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        path = tmp_path / "i.tif"
        tifffile.imwrite(path, (top - image.astype(int)).astype(dtype), photometric="miniswhite")
        np.testing.assert_array_equal(read_image(path).data, image)
    # Of labels, 0 is the background whatever it looks like.
    np.testing.assert_array_equal(read_image(path, as_labels=True).data, 65535 - image.astype(int))


@pytest.mark.parametrize("grows", [True, False])
def test_palettes_of_tifs(tmp_path, image, grows):
    """A look-up table that grows with the number is a tint; else the numbers are names."""
    path = tmp_path / "i.tif"
    table = np.zeros((3, 256), np.uint16)
    table[1] = (np.arange(256) if grows else np.random.default_rng(0).permutation(256)) << 8
    tifffile.imwrite(path, image, photometric="palette", colormap=table)
    read = read_image(path)
    assert read.is_colour != grows
    expected = image if grows else (table[1] >> 8)[image]
    np.testing.assert_array_equal(read.data if grows else read.data[..., 1], expected)
    np.testing.assert_array_equal(read_image(path, as_labels=True).data, image)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("dye", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0.5, 0)])
def test_one_dye_saved_in_a_colour_is_one_dye(tmp_path, image, plain, suffix, dye, segment):
    path = tmp_path / f"i.{suffix}"
    coloured = (image[..., None] * np.array(dye)).astype(np.uint8)
    if suffix == "tif":
        tifffile.imwrite(path, coloured, photometric="rgb")
    else:
        iio.imwrite(
            path, coloured, **({"quality": 90, "subsampling": 0} if suffix == "jpg" else {})
        )
    found, said = segment(path)
    assert "read as a colour picture (Y, X, C)" in said
    assert found.max() == N_CELLS
    assert ((found > 0) == (plain > 0)).mean() > 0.97


def test_side_files_of_other_systems_are_no_images(tmp_path, image, labels, call):
    images, truths = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    truths.mkdir()
    iio.imwrite(images / "a0.png", image)
    tifffile.imwrite(truths / "a0.tif", labels.astype(np.uint16))
    for folder in (images, truths):
        for name in ("._a0.png", "._a0.tif", ".DS_Store", "Thumbs.db"):
            (folder / name).write_bytes(b"\0\5\x16\7Mac OS X")
    status, stdout, _ = call("evaluate", "--images", images, "--labels", truths, "--json", *EXACT)
    assert (status, json.loads(stdout)["n_images"]) == (0, 1)
    assert call("segment", images, "-o", tmp_path / "out", *EXACT)[0] == 0
    assert os.listdir(tmp_path / "out") == ["a0_labels.tif"]


@pytest.mark.parametrize("out", ["out.tif", "out.zarr"])
def test_a_broken_chunk_is_named(tmp_path, image, call, out):
    path = tmp_path / "i.zarr"
    ome_zarr(path, image, "yx", [1.0, 1.0])
    (path / "0" / "1.0").write_bytes(b"garbage")
    status, _, said = call("segment", path, "-o", tmp_path / out, *EXACT)
    assert (status, len(said.splitlines())) == (1, 1)
    assert f"the chunk 1/0 of the array {path / '0'} cannot be read" in said
    assert "copy the image anew" in said
    np.testing.assert_array_equal(open_zarr(path).data[:50, :50], image[:50, :50])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("i.tif", b"", "it is empty; take another copy"),
        ("i.tif", b"II*\0\xff\xff\xff\xff", "if it is damaged copy it anew"),
        ("i.png", b"no picture", "it is no picture of a known format); save it as tif"),
    ],
)
def test_the_advice_fits_the_cause(tmp_path, refused, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    assert words in refused(path)


# --- labels ------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, image):
    images, truths = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    truths.mkdir()
    iio.imwrite(images / "a0.png", image)
    return images, truths


def evaluate(call, folders, *options):
    given = ("--images", folders[0], "--labels", folders[1], "--json", *EXACT)
    status, stdout, stderr = call("evaluate", *given, *options)
    return status, json.loads(stdout) if stdout else None, stderr


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_mask_of_all_cells_is_not_one_cell(call, folders, labels, suffix, value):
    mask = ((labels > 0) * value).astype(np.uint8)
    iio.imwrite(folders[1] / f"a0.{suffix}", mask)
    words = f"the labels hold one value ({value}) in 12 separate pieces: a mask"
    status, _, stderr = evaluate(call, folders)
    assert (status, words in stderr, "give --split" in stderr) == (1, True, True)
    given = ("--images", folders[0], "--labels", folders[1], "--name", "x", "--steps", 1)
    status, _, stderr = call("train", *given)
    assert (status, words in stderr, "give --split" in stderr) == (1, True, True)
    status, scores, _ = evaluate(call, folders, "--split")
    assert (status, scores["n_true"], scores["f1_50"]) == (0, N_CELLS, 1.0)


def test_few_cells_are_no_mask(call, folders, labels):
    for few in ((labels == 3).astype(np.uint8), np.where(labels < 3, labels, 0).astype(np.uint8)):
        iio.imwrite(folders[1] / "a0.png", few)
        status, scores, _ = evaluate(call, folders)
        assert (status, scores["n_true"]) == (0, len(np.unique(few)) - 1)


def png_with_palette(path, indices):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    palette = np.random.default_rng(1).integers(0, 255, (256, 3), np.uint8)
    height, width = indices.shape
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in indices)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", palette.tobytes())
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["png", "tif", "float", "grey rgb", "one plane"])
def test_labels_as_other_programs_save_them(call, folders, labels, kind):
    small = labels.astype(np.uint8)
    path = folders[1] / "a0.tif"
    if kind == "png":
        png_with_palette(folders[1] / "a0.png", labels)
    elif kind == "tif":
        table = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
        tifffile.imwrite(path, small, photometric="palette", colormap=table)
    elif kind == "float":
        tifffile.imwrite(path, labels.astype(np.float32))
    elif kind == "grey rgb":
        iio.imwrite(folders[1] / "a0.png", np.dstack([small] * 3))
    else:
        tifffile.imwrite(path, small[None], metadata={"axes": "ZYX"})
    status, scores, stderr = evaluate(call, folders)
    assert status == 0, stderr
    assert (scores["n_true"], scores["f1_50"]) == (N_CELLS, 1.0)


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (np.zeros((5, 5), np.uint8), "the labels are 5 x 5 and the image is 72 x 80"),
        (np.full((72, 80), -1, np.int16), "the labels go from -1 to -1; give 0 for background"),
        (np.full((72, 80), np.nan, np.float32), "the labels are float32; give whole numbers"),
    ],
)
def test_labels_that_are_none_are_told(call, folders, truth, words):
    tifffile.imwrite(folders[1] / "a0.tif", truth)
    status, _, stderr = evaluate(call, folders)
    assert status == 1
    assert f"{folders[1] / 'a0.tif'}: {words}" in stderr


def test_labels_in_colours_are_told(call, folders, labels):
    colours = np.random.default_rng(0).integers(0, 255, (99, 3), np.uint8)[labels]
    iio.imwrite(folders[1] / "a0.png", colours)
    status, _, stderr = evaluate(call, folders)
    assert (status, "the labels are a colour picture; save them as whole" in stderr) == (1, True)


def test_the_python_door_refuses_a_mask_too(image, labels):
    with pytest.raises(ValueError, match=r"one value \(1\) in 12 .* skimage\.measure\.label"):
        napari_unet.finetune(image, labels > 0)


# --- axes and channels ---------------------------------------------------------------------------


@pytest.fixture(params=["imagej", "ome.tif", "plain tif", "zarr", "zarr 0.5"])
def three(request, tmp_path, image):
    """A file of three separate channels, of which the last one shows cells."""
    data, kind = channels(image), request.param
    path = tmp_path / {"ome.tif": "i.ome.tif", "zarr": "i.zarr", "zarr 0.5": "i.zarr"}.get(
        kind, "i.tif"
    )
    if kind == "imagej":
        tifffile.imwrite(path, data, imagej=True, metadata={"axes": "CYX"})
    elif "tif" in kind:
        tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": "CYX"})
    else:
        ome_zarr(path, data, "cyx", [1.0, 0.25, 0.25], version="0.5" if "5" in kind else "0.4")
    return path


def test_what_a_file_calls_channels_is_no_colour_picture(three, refused, segment, plain):
    for out, channel in product(("out.tif", "out.zarr"), ("auto", "stain", "all")):
        if out == "out.tif" or three.suffix == ".zarr":
            line = refused(three, "--channel", channel, out=out)
            assert "has 3 separate channels; choose" in line
            assert "--channel 0 to 2" in line
    found, said = segment(three, "--channel", 2)
    np.testing.assert_array_equal(found, plain)
    assert "read as 3 channels (C, Y, X)" in said
    assert "channel 2 used" in said


def test_channels_that_are_the_colours_of_a_photograph(three, segment, call, tmp_path, image):
    data = np.stack([image] * 3)
    tifffile.imwrite(tmp_path / "grey.tif", data, imagej=True, metadata={"axes": "CYX"})
    assert segment(tmp_path / "grey.tif", "--rgb")[0].max() == N_CELLS
    assert call("segment", three, "-o", tmp_path / "o.tif", "--rgb", *EXACT)[0] == 0
    iio.imwrite(tmp_path / "grey.png", image)
    status, _, said = call("segment", tmp_path / "grey.png", "-o", tmp_path / "o.tif", "--rgb")
    assert (status, "--rgb is for 3 or 4 channels and it has 1" in said) == (1, True)


def test_planar_colours_are_colours(tmp_path, image, segment, plain):
    path = tmp_path / "i.tif"
    planar = np.stack([image] * 3)
    tifffile.imwrite(path, planar, photometric="rgb", planarconfig="separate")
    read = read_image(path)
    assert (read.axes, read.data.shape, read.is_colour) == ("YXC", (*image.shape, 3), True)
    np.testing.assert_array_equal(segment(path)[0], plain)


def test_train_and_evaluate_take_the_channel_they_ask_for(tmp_path, image, labels, call):
    images, truths = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    truths.mkdir()
    tifffile.imwrite(images / "a.tif", channels(image, 2), imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(truths / "a.tif", labels.astype(np.uint16))
    given = ("--images", images, "--labels", truths)
    train = ("train", *given, "--name", "t", "--steps", 1, "--device", "cpu", "--from", "nuclei")
    for command in (train, ("evaluate", *given)):
        status, _, said = call(*command)
        assert status == 1
        assert f"{images / 'a.tif'}: the image has 2 separate channels; choose" in said
        assert "--channel 0 to 1" in said
        assert call(*command, "--channel", 1)[0] == 0
    status, stdout, _ = call("evaluate", *given, "--channel", 1, "--json", *EXACT)
    assert json.loads(stdout)["f1_50"] == 1.0


def test_names_of_channels_are_shown(tmp_path, image, refused, segment):
    path = tmp_path / "i.ome.tif"
    names = {"Channel": {"Name": ["GFP", "RFP", "DAPI"]}}
    tifffile.imwrite(
        path, channels(image), photometric="minisblack", metadata={"axes": "CYX", **names}
    )
    assert "3 separate channels (GFP, RFP, DAPI)" in refused(path)
    assert "channel 2 (DAPI) used" in segment(path, "--channel", 2)[1]
    group = ome_zarr(tmp_path / "i.zarr", channels(image), "cyx", [1.0] * 3)
    group.attrs["omero"] = {"channels": [{"label": name} for name in ("a", "b", "c")]}
    assert "3 separate channels (a, b, c)" in refused(tmp_path / "i.zarr")


def test_separate_channels_in_python(image, plain):
    for count in (2, 3, 4, 5):
        data = channels(image, count)
        for none in ("auto", "stain", None):
            with pytest.raises(ValueError, match=r"separate channels; .*Config\(channel=0\)"):
                napari_unet.segment(data, axes="CYX", config=PredictConfig(channel=none))
        config = PredictConfig(channel=count - 1, device="cpu", precision="float32")
        found = napari_unet.segment(data, axes="CYX", config=config)
        np.testing.assert_array_equal(found, plain)
    for none in ("stain", None):
        with pytest.raises(ValueError, match="3 separate channels"):
            napari_unet.finetune(
                channels(image), plain, axes="CYX", config=FinetuneConfig(channel=none)
            )
    colours = np.dstack([image] * 3)
    np.testing.assert_array_equal(napari_unet.segment(colours, config=CONFIG), plain)


@pytest.mark.parametrize("shape", [(1, 72, 80), (72, 80, 1), (1, 72, 80, 1), (1, 1, 1, 72, 80, 1)])
def test_axes_of_length_1(tmp_path, image, plain, segment, shape):
    found = napari_unet.segment(image.reshape(shape), config=CONFIG)
    np.testing.assert_array_equal(found.squeeze(), plain)
    zarr.save_array(tmp_path / "i.zarr", image.reshape(shape))
    np.testing.assert_array_equal(segment(tmp_path / "i.zarr")[0].squeeze(), plain)
    tifffile.imwrite(tmp_path / "i.tif", image.reshape(shape))
    np.testing.assert_array_equal(segment(tmp_path / "i.tif")[0].squeeze(), plain)


def test_more_axes_than_there_are_names_for(tmp_path):
    with pytest.raises(ValueError, match=r"6 axes longer than 1, .*; five \(TZCYX\) are the most"):
        napari_unet.segment(np.zeros((2, 2, 2, 2, 40, 40)))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_planes_a_few_pixels_wide_are_none(tmp_path, image, plain, refused, segment, count):
    path = tmp_path / "i.tif"
    data = np.moveaxis(channels(image, count), 0, -1)
    tifffile.imwrite(path, data.astype(np.float32), photometric="minisblack")
    line = refused(path)
    assert f"the image is 72 x 80 x {count}: its last axis is too short for columns" in line
    assert "give --axes YXC --channel 0" in line
    found, _ = segment(path, "--axes", "YXC", "--channel", count - 1)
    np.testing.assert_array_equal(found, plain)
    if count != 3:  # such an array is a colour picture
        with pytest.raises(ValueError, match=r"axes='YXC' and PredictConfig\(channel=0\)"):
            napari_unet.segment(data)


def test_what_is_guessed_is_said(tmp_path, image, segment):
    tifffile.imwrite(tmp_path / "i.tif", np.stack([image] * 2), photometric="minisblack")
    _, said = segment(tmp_path / "i.tif")
    assert "read as 2 planes (Z, Y, X); the file does not name its axes: taken for a z-s" in said
    assert "--axes TYX" in said
    assert segment(tmp_path / "i.tif", "--axes", "TYX")[1].endswith("read as 2 times (T, Y, X)\n")


@pytest.mark.parametrize("shape", [(0, 64, 64), (64, 0), (2, 0, 64)])
def test_empty_images(tmp_path, shape, refused):
    words = f"the image is empty, {' x '.join(map(str, shape))}; give pixels"
    with pytest.raises(ValueError, match=words):
        napari_unet.segment(np.zeros(shape, np.uint8))
    zarr.create_array(tmp_path / "i.zarr", shape=shape, dtype="u1", chunks=(1,) * len(shape))
    for out in ("out.tif", "out.zarr"):
        assert words in refused(tmp_path / "i.zarr", out=out)


def test_wrong_calls(call):
    for given in (
        ("segment", "i.png", "-o", "o.tif", "--channel", "-1"),
        ("segment", "i.png", "-o", "o.tif", "--series", "-1"),
        ("segment", "i.png", "-o", "o.tif", "--axes", "ABC"),
        ("segment", "i.png", "-o", "o.tif", "--axes", "ZX"),
        ("train", "--images", ".", "--labels", ".", "--name", "x", "--seed", "-1"),
        ("evaluate", "--images", ".", "--labels", ".", "--channel", "-1"),
    ):
        assert call(*given)[0] == 2


# --- values --------------------------------------------------------------------------------------


def holed(image):
    out = image.astype(np.float32)
    holes = np.random.default_rng(0).random(image.shape) < 0.01
    out[holes] = np.nan
    out[:2, :5] = np.inf
    return out, int((~np.isfinite(out)).sum())


def test_missing_pixels_are_filled_in_and_counted(tmp_path, image, plain, segment, call):
    data, count = holed(image)
    with pytest.warns(UserWarning, match=f"{count} pixels are no numbers and were filled in"):
        found = napari_unet.segment(data, config=CONFIG)
    assert found.max() == N_CELLS
    assert ((found > 0) == (plain > 0)).mean() > 0.995
    tifffile.imwrite(tmp_path / "i.tif", data)
    labels, said = segment(tmp_path / "i.tif")
    assert f"{count} pixels are no numbers and were filled in from the neighbours (1 %)" in said
    np.testing.assert_array_equal(labels, found)
    # In tiles, and from zarr to zarr, they are filled in alike.
    np.testing.assert_array_equal(segment(tmp_path / "i.tif", "--tile", "30")[0], found)
    zarr.save_array(tmp_path / "i.zarr", data)
    status, _, said = call("segment", tmp_path / "i.zarr", "-o", tmp_path / "o.zarr", *EXACT)
    assert (status, f"{count} pixels are no numbers" in said) == (0, True)
    stored = open_zarr(tmp_path / "o.zarr").data[:]
    np.testing.assert_array_equal(stored > 0, found > 0)


@pytest.mark.parametrize("channel", ["auto", "stain", None])
def test_missing_pixels_of_a_section_in_colour(channel):
    section = skimage.data.immunohistochemistry()[:96, :96].astype(np.float32)
    config = dataclasses.replace(CONFIG, channel=channel)
    whole = napari_unet.segment(section, config=config)
    data, count = holed(section)
    count = int((~np.isfinite(data)).any(-1).sum())
    with pytest.warns(UserWarning, match=f"{count} pixels are no numbers and were filled in"):
        found = napari_unet.segment(data, config=config)
    assert ((found > 0) == (whole > 0)).mean() > 0.95


def test_images_that_hold_no_number_are_refused(tmp_path, refused):
    tifffile.imwrite(tmp_path / "i.tif", np.full((40, 50), np.nan, np.float32))
    assert "the image holds no finite number" in refused(tmp_path / "i.tif")


def test_measurements_leave_missing_pixels_out(image, labels):
    data = image.astype(np.float32)
    cell = labels == 3
    first = tuple(np.argwhere(cell)[0])
    data[first] = np.nan
    with pytest.warns(UserWarning, match="1 px in cells are no numbers"):
        table = napari_unet.measure(data, labels)
    rest = image[cell & ~(np.indices(image.shape) == np.reshape(first, (2, 1, 1))).all(0)]
    found = [table[f"intensity_{name}"][2] for name in ("mean", "max", "min")]
    assert found == pytest.approx([rest.mean(), rest.max(), rest.min()])
    data[cell] = np.nan
    with pytest.warns(UserWarning, match="px in cells are no numbers"):
        table = napari_unet.measure(data, labels)
    assert np.isnan(table["intensity_mean"]).tolist() == [n == 2 for n in range(N_CELLS)]


def test_dask_arrays_of_unknown_size(image):
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(image, chunks=64)
    with pytest.raises(ValueError, match=r"unknown; call compute_chunk_sizes\(\) first"):
        napari_unet.segment(lazy[lazy[:, 0] >= 0])


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, OSError, KeyError])
def test_a_plane_that_cannot_be_read_is_named(image, kind):
    da = pytest.importorskip("dask.array")

    def block(block_info=None):
        if block_info[None]["chunk-location"][0] == 1:
            raise kind("disk gone")
        return np.ones(block_info[None]["chunk-shape"], np.uint8)

    lazy = da.map_blocks(block, chunks=((1, 1), (40,), (50,)), dtype=np.uint8)
    with pytest.raises(JobFailed, match=r"the plane Z 1.* cannot be read: .*disk gone"):
        napari_unet.segment(lazy)


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "per"),
    [("nm", 1e-3), ("um", 1), ("micron", 1), ("µm", 1), ("\u03bcm", 1), ("mm", 1e3), ("cm", 1e4),
     ("inch", 25400)],
)  # fmt: skip
def test_every_unit_of_length(tmp_path, image, unit, per):
    path = tmp_path / "i.tif"
    tifffile.imwrite(
        path, image, imagej=True, resolution=(4 * per, 2 * per),
        metadata={"unit": unit.replace("µ", r"\u00B5").replace("\u03bc", r"\u03BC")},
    )  # fmt: skip
    assert read_image(path).pixel_size_um == pytest.approx((0.5, 0.25), rel=1e-6)
    path = tmp_path / "i.ome.tif"
    sizes = {"PhysicalSizeX": 0.25 / per, "PhysicalSizeY": 0.5 / per}
    units = {f"PhysicalSize{a}Unit": {"inch": "in", "micron": "µm"}.get(unit, unit) for a in "XY"}
    tifffile.imwrite(path, image, metadata={"axes": "YX"} | sizes | units)
    assert read_image(path).pixel_size_um == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize("unit", ["nanometer", "micrometer", "millimeter"])
def test_units_of_ome_zarr(tmp_path, image, unit):
    per = {"nanometer": 1e-3, "micrometer": 1, "millimeter": 1e3}[unit]
    ome_zarr(tmp_path / "i.zarr", image, "yx", [0.5 / per, 0.25 / per], unit)
    assert read_image(tmp_path / "i.zarr").pixel_size_um == pytest.approx((0.5, 0.25))


def test_resolutions_of_scanners_and_printers(tmp_path, image):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, image, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert read_image(path).pixel_size_um == pytest.approx((0.5, 0.5))
    for dots in (72, 300, 1200):
        tifffile.imwrite(path, image, resolution=(dots, dots), resolutionunit="INCH")
        assert read_image(path).pixel_size_um is None


def test_calibration_goes_with_the_labels(tmp_path, image, segment):
    path = tmp_path / "i.tif"
    for axes, known in (("ZYX", {"spacing": 1.5}), ("TYX", {"finterval": 30.0})):
        tifffile.imwrite(
            path, np.stack([image] * 2), imagej=True, resolution=(4, 2),
            metadata={"axes": axes, "unit": "um", **known},
        )  # fmt: skip
        segment(path)
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            written = file.imagej_metadata
            assert written["unit"] == "um"
            assert {name: written[name] for name in known} == known
        image_back, labels_back = read_image(path), read_image(tmp_path / "out.tif")
        for name in ("pixel_size_um", "z_step_um", "interval_s"):
            assert getattr(labels_back, name) == getattr(image_back, name)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_all_coordinate_transformations_count(tmp_path, image, segment, call, version):
    path = tmp_path / "i.zarr"
    ome_zarr(
        path, image, "yx", [1.0, 2.0], version=version,
        of_level=[{"type": "translation", "translation": [10.0, 20.0]}],
        coordinateTransformations=[
            {"type": "scale", "scale": [0.25, 0.25]},
            {"type": "translation", "translation": [100.0, 200.0]},
        ],
    )  # fmt: skip
    found = open_zarr(path)
    assert (found.scale, found.translation) == ((0.25, 0.5), (102.5, 205.0))
    segment(path)
    assert read_image(tmp_path / "out.tif").pixel_size_um == (0.25, 0.5)
    assert call("segment", path, "-o", tmp_path / "o.zarr", *EXACT)[0] == 0
    written = open_zarr(tmp_path / "o.zarr")
    assert (written.scale, written.translation) == (found.scale, found.translation)
    assert written.units == ("micrometer", "micrometer")


def test_images_inside_stores(tmp_path, image, plain, segment, refused):
    """A level of an image, a store without its ending, several images, a field of a plate."""
    ome_zarr(tmp_path / "i.zarr", image, "yx", [0.5, 0.25])
    level = read_image(tmp_path / "i.zarr" / "0")
    assert (level.axes, level.pixel_size_um) == ("YX", (0.5, 0.25))
    np.testing.assert_array_equal(segment(tmp_path / "i.zarr" / "0")[0], plain)
    ome_zarr(tmp_path / "bare", image, "yx", [0.5, 0.25])
    np.testing.assert_array_equal(segment(tmp_path / "bare")[0], plain)
    plate = zarr.create_group(tmp_path / "p.zarr", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}]}
    for name in ("0", "1"):
        ome_zarr(tmp_path / "p.zarr" / "A" / "1" / name, image, "yx", [0.5, 0.25])
    assert "is a plate of 1 wells; give one field, such as" in refused(tmp_path / "p.zarr")
    np.testing.assert_array_equal(segment(tmp_path / "p.zarr" / "A" / "1" / "0")[0], plain)
    _, said = segment(tmp_path / "p.zarr" / "A" / "1")
    assert "the store holds 2 images and the first, 0, was taken; --series N" in said
    assert segment(tmp_path / "p.zarr" / "A" / "1", "--series", 1)[1] == ""


def test_one_table_however_it_came_about(tmp_path, image, call):
    ome_zarr(tmp_path / "i.zarr", image, "yx", [0.25, 0.25])
    tables = []
    for out in ("out.tif", "out.zarr"):
        given = ("segment", tmp_path / "i.zarr", "-o", tmp_path / out, "--table", *EXACT)
        assert call(*given)[0] == 0
        tables.append((tmp_path / "i_cells.csv").read_text().splitlines())
    assert tables[0][0] == tables[1][0]
    assert len(tables[0]) == len(tables[1]) == N_CELLS + 1
    assert "class,unit" in tables[0][0]
