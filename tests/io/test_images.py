import os
import stat
import tempfile
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.corrections.labelled_folders import list_pairs, read_pair
from napari_unet.io.images import list_images, read_image, write_image, write_labels


def numbered(shape, highest=None):
    labels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    return labels if highest is None else np.minimum(labels, highest)


@pytest.mark.parametrize("highest", [255, 65535, 70000, 2**31 - 1])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((8, 9), "YX"),
        ((9, 8), "XY"),
        ((5, 8, 9), "ZYX"),
        ((5, 8, 9), "TYX"),
        ((2, 5, 8, 9), "TZYX"),
        ((5, 2, 8, 9), "ZTYX"),
        ((8, 9, 5), "YXZ"),
        ((3, 8, 9), "ZYX"),  # neither planes nor columns are colours
        ((6, 8, 3), "ZYX"),
        ((8, 3), "YX"),
        ((1, 1), "YX"),
    ],
)
def test_labels_round_trip(tmp_path, shape, axes, highest):
    path = tmp_path / "new" / "labels.tif"
    labels = numbered(shape, highest)
    labels.flat[-1] = highest
    write_labels(path, labels, axes, (0.25, 0.5))
    back = read_image(path)
    assert back.axes == axes
    np.testing.assert_array_equal(back.data, labels)
    np.testing.assert_allclose(back.pixel_size_um, (0.25, 0.5), rtol=1e-5)
    assert os.listdir(path.parent) == ["labels.tif"]


def test_70000_ids_stay_different_in_a_file(tmp_path):
    labels = numbered((281, 250))
    write_labels(tmp_path / "labels.tif", labels, "YX")
    back = read_image(tmp_path / "labels.tif").data
    assert len(np.unique(back)) == 70_250
    np.testing.assert_array_equal(back, labels)


def test_imagej_opens_labels_that_fit_its_types(tmp_path):
    write_labels(tmp_path / "small.tif", numbered((2, 5, 8, 9)), "TZYX", (0.25, 0.5))
    with tifffile.TiffFile(tmp_path / "small.tif") as file:
        assert file.is_imagej
        assert (file.imagej_metadata["frames"], file.imagej_metadata["slices"]) == (2, 5)
        assert file.imagej_metadata["unit"] == "um"
        assert file.series[0].dtype == np.uint16
        assert file.pages.first.tags["XResolution"].value == (2, 1)
        assert file.pages.first.tags["YResolution"].value == (4, 1)
    write_labels(tmp_path / "large.tif", numbered((300, 300)), "YX")
    with tifffile.TiffFile(tmp_path / "large.tif") as file:
        assert not file.is_imagej
        assert file.series[0].dtype == np.int32


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("dtype", "axes", "imagej"),
    [("u1", "YX", True), ("f4", "CYX", True), ("u2", "YXC", False), ("i4", "CYX", False),
     (">u2", "YX", False), (bool, "YX", False)],
)  # fmt: skip
def test_pixels_round_trip(tmp_path, dtype, axes, imagej, compress):
    shape = tuple({"C": 3, "Y": 40, "X": 50}[axis] for axis in axes)
    image = (np.arange(6000)[: np.prod(shape)].reshape(shape) % 200).astype(dtype)
    path = tmp_path / "new" / "image.tif"
    write_image(path, image, axes, (0.5, 0.25), compress=compress)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, image)
    assert (read.axes, read.pixel_size_um) == (axes, (0.5, 0.25))
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej == imagej
        assert (file.pages.first.compression != 1) == (compress or not imagej)


def test_no_pixel_size_is_invented(tmp_path):
    write_labels(tmp_path / "l.tif", numbered((8, 9)), "YX")
    assert read_image(tmp_path / "l.tif").pixel_size_um is None
    tifffile.imwrite(tmp_path / "inch.tif", np.zeros((8, 9), np.uint8), resolution=(72, 72))
    assert read_image(tmp_path / "inch.tif").pixel_size_um is None
    tifffile.imwrite(
        tmp_path / "pixel.tif", np.zeros((8, 9), np.uint8), imagej=True, metadata={"unit": "pixel"}
    )
    assert read_image(tmp_path / "pixel.tif").pixel_size_um is None


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_pixel_size_as_imagej_writes_it(tmp_path, unit):
    path = tmp_path / "i.tif"
    pixels = np.zeros((8, 9), np.uint8)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(4, 2), metadata={"unit": unit})
    assert read_image(path).pixel_size_um == (0.5, 0.25)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}, (0.5, 0.25)),
        (
            {
                "PhysicalSizeX": 0.25,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.5,
                "PhysicalSizeYUnit": "µm",
            },
            (0.5, 0.25),
        ),
        ({"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}, (0.5, 0.25)),
        ({"PhysicalSizeX": 0.25}, None),
        ({}, None),
    ],
)
def test_ome_tiff_with_axes_and_pixel_size(tmp_path, metadata, expected):
    path = tmp_path / "i.ome.tif"
    data = np.zeros((2, 3, 8, 9), np.uint16)
    tifffile.imwrite(path, data, ome=True, metadata={"axes": "CZYX", **metadata})
    image = read_image(path)
    assert image.axes == "CZYX"
    assert image.pixel_size_um == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16, ">u2"])
def test_tif_of_any_dtype(tmp_path, dtype):
    data = numbered((8, 9)).astype(dtype)
    tifffile.imwrite(tmp_path / "i.TIFF", data)
    image = read_image(tmp_path / "i.TIFF")
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.data, data)


def test_axes_of_stacks(tmp_path):
    stack = np.zeros((5, 2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "ij.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    assert read_image(tmp_path / "ij.tif").axes == "ZCYX"
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((5, 8, 9), np.uint8))
    assert read_image(tmp_path / "plain.tif").axes == "ZYX"
    assert read_image(tmp_path / "plain.tif", "tyx").axes == "TYX"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_colours(tmp_path, suffix):
    rgb = np.full((8, 9, 3), (200, 100, 50), np.uint8)
    if suffix == ".tif":
        tifffile.imwrite(tmp_path / "i.tif", rgb, photometric="rgb")
    else:
        iio.imwrite(tmp_path / f"i{suffix}", rgb)
    image = read_image(tmp_path / f"i{suffix}")
    assert (image.axes, image.data.shape, image.pixel_size_um) == ("YXC", (8, 9, 3), None)
    np.testing.assert_allclose(image.data[4, 4], (200, 100, 50), atol=4)


def test_png_of_all_kinds(tmp_path):
    deep = (1000 * numbered((8, 9))).astype(np.uint16)
    iio.imwrite(tmp_path / "deep.png", deep)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png").data, deep)
    rgba = np.full((8, 9, 4), 7, np.uint8)
    iio.imwrite(tmp_path / "rgba.PNG", rgba)
    assert read_image(tmp_path / "rgba.PNG").axes == "YXC"
    # Grey with alpha is not a stack of 8 images.
    grey = np.stack([numbered((8, 9)), np.full((8, 9), 255)], -1).astype(np.uint8)
    iio.imwrite(tmp_path / "la.png", grey)
    image = read_image(tmp_path / "la.png")
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.data, grey[..., 0])


@pytest.mark.parametrize("name", ["i.tif", "i.png", "i.jpg"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"II*\0\xff\xff\xff\xff"])
def test_broken_files_are_told_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as an image") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_truncated_tif_is_told(tmp_path):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    content = path.read_bytes()
    for share in (0.05, 0.5, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="cannot be read as an image"):
                read_image(path)


def test_missing_files_and_odd_axes_are_told_by_name(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(ValueError, match="there is no file"):
        read_image(tmp_path)
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.zeros((8, 9), np.uint8))
    with pytest.raises(ValueError, match="name 3 axes and the image has 2") as caught:
        read_image(path, "ZYX")
    assert str(path) in str(caught.value)


def test_a_failed_write_leaves_the_old_labels(tmp_path, monkeypatch):
    path = tmp_path / "l.tif"
    write_labels(path, numbered((8, 9)), "YX")
    before = path.read_bytes()

    def full(part, *args, **kwargs):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(OSError, match="No space"):
        write_labels(path, numbered((8, 9)), "YX")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["l.tif"]


def test_a_folder_stands_for_the_images_in_it(tmp_path):
    for name in ("b.png", "a.TIF", "c.txt", "d.jpeg", ".hidden.part"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    single = tmp_path / "c.txt"
    names = [path.name for path in list_images([single, tmp_path])]
    assert names == ["c.txt", "a.TIF", "b.png", "d.jpeg"]


def test_no_images_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"holds no image; it needs .*tif"):
        list_images([tmp_path])
    with pytest.raises(ValueError, match="there is no file or folder"):
        list_images([tmp_path / "none"])


@pytest.fixture
def folders(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    return images, labels


def test_pairs_go_by_stem(folders):
    images, labels = folders
    for name in ("b.tif", "a.png"):
        (images / name).write_bytes(b"")
    for name in ("a.tif", "b.png", "more.tif"):
        (labels / name).write_bytes(b"")
    found = [(i.name, t.name) for i, t in list_pairs(images, labels)]
    assert found == [("a.png", "a.tif"), ("b.tif", "b.png")]


def test_labels_that_segment_wrote_are_found_after_those_of_the_very_name(folders):
    images, labels = folders
    for name in ("a.tif", "b.tif"):
        (images / name).write_bytes(b"")
    for name in ("a.tif", "a_labels.tif", "b_labels.tif"):
        (labels / name).write_bytes(b"")
    found = [(i.name, t.name) for i, t in list_pairs(images, labels)]
    assert found == [("a.tif", "a.tif"), ("b.tif", "b_labels.tif")]


def test_images_without_labels_are_told(folders):
    images, labels = folders
    for name in ("a.tif", "b.tif", "c.tif"):
        (images / name).write_bytes(b"")
    (labels / "b.tif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 3 images have no labels in .*, for example a\.tif"):
        list_pairs(images, labels)


def test_a_pair_is_read_as_image_and_int32(folders):
    images, labels = folders
    iio.imwrite(images / "a.png", np.zeros((8, 9, 3), np.uint8))
    tifffile.imwrite(labels / "a.tif", numbered((8, 9)).astype(np.uint8))
    image, truth = read_pair(images / "a.png", labels / "a.tif")
    assert image.axes == "YXC"
    assert truth.dtype == np.int32
    np.testing.assert_array_equal(truth, numbered((8, 9)))


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (np.zeros((9, 8), np.uint8), "are 9 x 8 and the image is 8 x 9; give one number"),
        (np.zeros((8, 9, 3), np.uint8), "are 8 x 9 x 3 and the image is 8 x 9"),
        (np.full((8, 9), 0.5, np.float32), "the labels are float32; give whole numbers"),
        (np.full((8, 9), -1, np.int16), "the labels go from -1 to -1"),
    ],
)
def test_labels_that_do_not_fit_are_told_by_name(folders, truth, words):
    images, labels = folders
    tifffile.imwrite(images / "a.tif", np.zeros((8, 9), np.uint8))
    tifffile.imwrite(labels / "a.tif", truth, photometric="minisblack")
    with pytest.raises(ValueError, match=words) as caught:
        read_pair(images / "a.tif", labels / "a.tif")
    assert str(labels / "a.tif") in str(caught.value)


@contextmanager
def as_nobody():
    """Files are opened without the rights of root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_keeps_a_file_from_being_read_comes_before_its_format(tmp_path):
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"empty.png cannot be read as an image: it is empty; take"
    ):
        read_image(empty)
    with pytest.raises(ValueError, match="it is a folder; give the path of an image"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match=r"there is no file .*gone.tif; give the path"):
        read_image(tmp_path / "gone.tif")


@pytest.mark.skipif(os.name != "posix", reason="rights are of POSIX")
@pytest.mark.parametrize("name", ["secret.png", "secret.tif"])
def test_a_file_that_may_not_be_read_is_told_as_that(name):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / name
        iio.imwrite(path, np.eye(9, dtype=np.uint8))
        path.chmod(0)
        with as_nobody(), pytest.raises(PermissionError) as refusal:
            read_image(path)
        assert refusal.value.filename == str(path)


def archive_that_leads_out(path):
    """A zip with a name that leads out of it, a link, and a megabyte of nothing in a few bytes."""
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../out.tif", b"out")
        file.writestr(link, "/etc/passwd")
        file.writestr("image.tif", bytes(1 << 20))


@pytest.mark.parametrize("name", ["i.zip", "i.tif", "i.png", "i.zarr.zip", "m.safetensors"])
def test_archives_are_not_unpacked(tmp_path, name):
    from napari_unet.models.header import ModelFileError, read_header

    folder = tmp_path / "here"
    folder.mkdir()
    archive_that_leads_out(folder / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image"):
        read_image(folder / name)
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        read_header(folder / name)
    assert sorted(tmp_path.rglob("*")) == before
