import numpy as np
import pytest

from napari_unet.corrections.fingerprint import plane_sha256, slug


def test_a_plane_is_known_by_its_shape_dtype_and_pixels():
    plane = np.arange(60, dtype=np.uint16).reshape(1, 6, 10)
    found = plane_sha256(plane, 100)
    assert len(found) == 64
    assert plane_sha256(plane.copy(order="F"), 100) == found
    assert plane_sha256(plane.astype(">u2"), 100) == found
    changed = plane.copy()
    changed[0, 5, 9] += 1
    others = [changed, plane.reshape(1, 10, 6), plane.astype(np.int16), plane.repeat(2, 0)]
    assert len({found, *(plane_sha256(other, 100) for other in others)}) == 5
    assert plane_sha256(plane, 100, "name") != found


def test_of_a_large_plane_some_pixels_are_read():
    plane = np.zeros((2, 40, 30), np.uint8)
    found = plane_sha256(plane, 300)
    plane[:, 1::2] = 9
    assert plane_sha256(plane, 300) == found
    plane[1, 0, 0] = 9
    assert plane_sha256(plane, 300) != found


def test_every_kind_of_number_and_none():
    for dtype in (bool, np.int8, np.float16, np.float64, np.complex64):
        assert plane_sha256(np.ones((1, 3, 4), dtype), 10)
    assert plane_sha256(np.zeros((1, 0, 4)), 10)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mitosis", "mitosis"),
        ("My Image (2).ome.TIF", "my-image-2-ome-tif"),
        ("Müller/../Zellen \\ 3", "muller-zellen-3"),
        ("细胞", ""),
        ("", ""),
        ("--a__b--", "a-b"),
        ("a" * 59 + " b", "a" * 59),
        ("x" * 100, "x" * 60),
    ],
)
def test_names_that_every_system_accepts(text, name):
    assert slug(text) == name
