import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from microscopes import write_czi, write_lif, write_nd2
from napari_unet.io.images import axes_in_file, list_images, read_image
from napari_unet.io.microscope import Planes

LIBRARIES = {"czi": "pylibCZIrw", "lif": "liffile", "nd2": "nd2"}
ONE_STEP = {"Y": 0.25, "X": 0.25, "Z": 1.5, "T": 60.0}
NAMES = ("DAPI", "GFP", "RFP")


def pixels(*shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.fixture
def write(tmp_path):
    """Writes an image with one position into a file of this kind; skips where nothing reads it."""

    def write(kind, image, axes, names=(), pixel_size_um=0.25):
        pytest.importorskip(LIBRARIES[kind], reason="the extra `formats` is not installed")
        path = tmp_path / f"image.{kind}"
        if kind == "czi":
            size = pixel_size_um and (pixel_size_um, pixel_size_um)
            z_step = 1.5 if pixel_size_um else 0.0
            write_czi(path, [image], axes, names=names, pixel_size_um=size, z_step_um=z_step)
        elif kind == "lif":
            steps = ONE_STEP if pixel_size_um else {}
            write_lif(path, [("one", image, axes, steps, names)])
        else:
            write_nd2(
                path,
                image,
                axes,
                names=names,
                pixel_size_um=pixel_size_um,
                z_step_um=1.5 if pixel_size_um else 0.0,
                period_ms=60000,
            )
        return path

    return write


@pytest.mark.parametrize("kind", LIBRARIES)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((40, 50), "YX"),
        ((4, 40, 50), "ZYX"),
        ((3, 40, 50), "CYX"),
        ((2, 4, 3, 40, 50), "TZCYX"),
    ],
)
def test_axes_sizes_names_and_pixels(write, kind, shape, axes):
    image = pixels(*shape)
    found = read_image(write(kind, image, axes, NAMES if "C" in axes else ()))
    assert (found.axes, found.data.shape, found.data.dtype) == (axes, shape, np.uint16)
    assert found.pixel_size_um == (0.25, 0.25)
    assert not found.is_colour
    if "Z" in axes:
        assert found.z_step_um == 1.5
        assert found.anisotropy == 6.0
    if "C" in axes:
        assert found.channel_names == NAMES
    if "T" in axes and kind != "czi":  # the writer of CZI knows no times
        assert found.interval_s == 60.0
    np.testing.assert_array_equal(np.asarray(found.data), image)
    # A part of one plane, in all channels.
    part = (*(slice(None) if a == "C" else 1 for a in axes[:-2]), slice(3, 9), slice(5, 50))
    np.testing.assert_array_equal(found.data[part], image[part])


@pytest.mark.parametrize("kind", LIBRARIES)
def test_colours(write, kind):
    image = pixels(40, 50, 3, dtype=np.uint8)
    found = read_image(write(kind, image, "YXS"))
    assert (found.axes, found.is_colour, found.channel_names) == ("YXC", True, ())
    np.testing.assert_array_equal(np.asarray(found.data), image)
    np.testing.assert_array_equal(found.data[3:9, 7:11, 1], image[3:9, 7:11, 1])


@pytest.mark.parametrize("kind", LIBRARIES)
def test_axes_of_length_1_are_left_out(write, kind):
    image = pixels(1, 4, 1, 40, 50)
    found = read_image(write(kind, image, "TZCYX"))
    assert found.axes == "ZYX"
    assert found.words() == "read as 4 planes (Z, Y, X), 0.25 um and 1.5 um along Z"
    np.testing.assert_array_equal(np.asarray(found.data), image[0, :, 0])


@pytest.mark.parametrize("kind", LIBRARIES)
def test_what_a_file_does_not_say_is_not_known(write, kind):
    found = read_image(write(kind, pixels(4, 40, 50), "ZYX", pixel_size_um=None))
    assert (found.pixel_size_um, found.z_step_um) == (None, None)


@pytest.mark.parametrize("kind", LIBRARIES)
def test_axes_may_be_given(write, kind):
    path = write(kind, pixels(4, 40, 50), "ZYX")
    assert read_image(path, "TYX").axes == "TYX"
    with pytest.raises(ValueError, match=rf"image\.{kind}: .*'TZYX' name 4 axes"):
        read_image(path, "TZYX")


def series_of(kind, path):
    images = [pixels(20, 30), pixels(40, 50)]
    if kind == "czi":
        write_czi(path, images, "YX")
    elif kind == "lif":
        write_lif(path, [(f"well {n}", one, "YX", {}, ()) for n, one in enumerate(images)])
    else:
        images = [pixels(40, 50), pixels(40, 50) // 2]
        write_nd2(path, np.stack(images), "PYX")
    return images


@pytest.mark.parametrize("kind", LIBRARIES)
def test_several_images(tmp_path, kind):
    pytest.importorskip(LIBRARIES[kind], reason="the extra `formats` is not installed")
    path = tmp_path / f"wells.{kind}"
    images = series_of(kind, path)
    for number, image in enumerate(images):
        found = read_image(path, series=number)
        assert found.notes == ()
        np.testing.assert_array_equal(np.asarray(found.data), image)
    taken = {"czi": "the largest, 1", "lif": "the largest, 1 (well 1)", "nd2": "the first, 0"}
    note = read_image(path).notes[0]
    assert note.startswith(f"the file holds 2 images and {taken[kind]}")
    assert note.endswith("--series N takes another, one of 0, 1")
    with pytest.raises(ValueError, match=r"image 2 is asked for .* give --series 0 to 1"):
        read_image(path, series=2)


def test_positions_of_a_movie_of_stacks(tmp_path):
    pytest.importorskip("nd2", reason="the extra `formats` is not installed")
    image = pixels(2, 3, 4, 2, 20, 30)
    write_nd2(tmp_path / "a.nd2", image, "TPZCYX")
    found = read_image(tmp_path / "a.nd2", series=2)
    assert found.axes == "TZCYX"
    np.testing.assert_array_equal(np.asarray(found.data), image[:, 2])
    assert "0 (well 0)" in read_image(tmp_path / "a.nd2").notes[0]


def test_tiles_of_a_scan_are_images_of_their_own(tmp_path):
    pytest.importorskip("liffile", reason="the extra `formats` is not installed")
    image = pixels(3, 2, 20, 30)
    write_lif(tmp_path / "a.lif", [("scan", image, "MCYX", {}, ("Green", "Red"))])
    found = read_image(tmp_path / "a.lif", series=2)
    assert (found.axes, found.channel_names) == ("CYX", ("Green", "Red"))
    np.testing.assert_array_equal(np.asarray(found.data), image[2])
    assert "3 images and the first, 0 (scan, tile 0)" in read_image(tmp_path / "a.lif").notes[0]


def test_tiles_of_a_mosaic_are_one_image(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi", reason="the extra `formats` is not installed")
    image = pixels(20, 30)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for left in (0, 10, 20):
            tile = np.ascontiguousarray(image[:, left : left + 10, None])
            file.write(tile, (left - 100, 40))  # places may be negative
        file.write_metadata()
    found = read_image(tmp_path / "a.czi")
    assert found.axes == "YX"
    np.testing.assert_array_equal(np.asarray(found.data), image)


@pytest.mark.parametrize("kind", LIBRARIES)
def test_a_broken_file(write, kind):
    path = write(kind, pixels(40, 50), "YX")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"image\.{kind} cannot be read as an image .*tif"):
        np.asarray(read_image(path).data)


@pytest.mark.parametrize(("kind", "library"), LIBRARIES.items())
def test_without_the_extra(tmp_path, monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"something")
    says = rf"a\.{kind}: .* {library}, which is not installed"
    if kind != "czi" or sys.version_info < (3, 14):
        says += r"; run: pip install \"napari-unet\[formats\]\"$"
    with pytest.raises(ValueError, match=says):
        read_image(path)


def test_they_are_images_of_a_folder(tmp_path):
    paths = [tmp_path / f"{name}" for name in ("a.CZI", "b.lif", "c.nd2")]
    for path in paths:
        path.touch()
    assert list_images([tmp_path]) == paths


@pytest.mark.parametrize("kind", LIBRARIES)
def test_axes_for_a_layer_of_the_file(write, kind):
    path = write(kind, pixels(3, 40, 50), "CYX")
    assert axes_in_file(path, (3, 40, 50)) == "CYX"
    assert axes_in_file(path, (40, 50, 3)) is None


IMAGE = pixels(2, 3, 5, 6)


def planes(image, reads):
    @contextmanager
    def opened():
        def read(index, box):
            reads.append(index)
            assert all(part.start >= 0 and part.step is None for part in box)
            return image[index][box]

        yield read

    return Planes(image.shape, image.dtype, 2, opened)


@given(hnp.basic_indices(IMAGE.shape, allow_newaxis=False) | st.just(Ellipsis))
def test_parts_are_those_of_the_array(index):
    np.testing.assert_array_equal(planes(IMAGE, [])[index], IMAGE[index])


def test_only_what_is_asked_for_is_read():
    reads = []
    lazy = planes(IMAGE, reads)
    assert reads == []
    lazy[1, 1:]
    assert reads == [(1, 1), (1, 2)]
    with pytest.raises(IndexError):
        lazy[2]
    with pytest.raises(IndexError):
        lazy[0, 0, 0, 0, 0]
