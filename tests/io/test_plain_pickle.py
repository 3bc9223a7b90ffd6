import os
import pickle
import struct

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from napari_unet.io.plain_pickle import RefusedPickle, read_npy

# As Cellpose 2 and 3 write them.
CELLPOSE = {
    "outlines": np.array([[0, 3], [3, 3]], np.uint16),
    "colors": np.array([[1, 2, 3]], np.uint8),
    "masks": np.array([[0, 3], [3, 3]], np.uint16),
    "chan_choose": [0, 0],
    "ismanual": np.zeros(1, bool),
    "filename": "/home/somebody/cells.tif",
    "flows": [np.zeros((2, 2, 3), np.uint8), [], np.zeros((1, 2, 2), np.float32)],
    "est_diam": np.float64(17.5),
    "diameter": 30.0,
    "zdraw": [None],
    "model_path": 0,
    "normalize_params": {"lowhigh": None, "percentile": [1.0, 99.0]},
}


class Bad:
    """Runs a command while it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write(path, content, protocol=4):
    """A .npy file of an object, pickled with a protocol of one's own."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    array = np.array(content, object)
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        pickle.dump(array, file, protocol)


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert_array_equal(a, b)
    else:
        assert a == b


def test_what_cellpose_saves_is_read(tmp_path):
    np.save(tmp_path / "a.npy", CELLPOSE)
    found = read_npy(tmp_path / "a.npy")
    assert found.keys() == CELLPOSE.keys()
    for name in set(CELLPOSE) - {"flows"}:
        same(found[name], CELLPOSE[name])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "masks",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.arange(24, dtype=np.uint16).reshape(2, 3, 4)[:, ::2],
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
    ],
    ids=lambda masks: str(masks.dtype),
)
def test_arrays_of_all_protocols(tmp_path, protocol, masks):
    write(tmp_path / "a.npy", {"masks": masks, "size": np.int32(5)}, protocol)
    found = read_npy(tmp_path / "a.npy")
    same(found["masks"], masks)
    assert found["size"] == 5


def test_pickles_of_numpy_1_are_read(tmp_path):
    write(tmp_path / "a.npy", {"masks": np.eye(3, dtype=np.int32)}, 2)
    content = (tmp_path / "a.npy").read_bytes()
    assert b"numpy._core" in content
    (tmp_path / "a.npy").write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    same(read_npy(tmp_path / "a.npy")["masks"], np.eye(3, dtype=np.int32))


def test_a_plain_array_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3))
    same(read_npy(tmp_path / "a.npy"), np.eye(3))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"masks": np.eye(2), "x": [bad]}])
def test_a_command_in_a_pickle_is_not_run(tmp_path, protocol, wrap):
    ran = tmp_path / "ran"
    write(tmp_path / "a.npy", wrap(Bad(ran)), protocol)
    name = f"{os.system.__module__}.system"
    with pytest.raises(RefusedPickle, match=rf"a.npy holds {name}, .* nothing in it was run"):
        read_npy(tmp_path / "a.npy")
    assert not ran.exists()
    # The file would have done it elsewhere.
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert ran.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "dtype.__class__"),
        ("collections", "OrderedDict"),
        ("napari_unet.io.plain_pickle", "_scalar"),
        ("pathlib", "PosixPath"),
    ],
)
def test_other_names_are_refused(tmp_path, module, name):
    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    write(tmp_path / "a.npy", None)
    head = (tmp_path / "a.npy").read_bytes()[:128]
    (tmp_path / "a.npy").write_bytes(head + b"\x80\x04" + text(module) + text(name) + b"\x93.")
    with pytest.raises(RefusedPickle, match=rf"holds {module}.{name}, "):
        read_npy(tmp_path / "a.npy")


def test_texts_that_grow_without_end_are_refused(tmp_path):
    """A list of lists of lists, 50 times, whose text would fill the memory."""
    lists = b"".join(b"(h%ch%cl\x940" % (n, n) for n in range(1, 50))
    content = b"\x80\x04\x8c\x07_codecs\x8c\x06encode\x93\x94]\x940" + lists + b"h\x32"
    write(tmp_path / "a.npy", None)
    head = (tmp_path / "a.npy").read_bytes()[:128]
    (tmp_path / "a.npy").write_bytes(head + content + b"\x8c\x06latin1\x86R.")
    with pytest.raises(RefusedPickle, match="bytes that are no text"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", ["V4", "M8[s]", [("a", "i4")]])
def test_other_types_of_arrays_are_refused(tmp_path, kind):
    write(tmp_path / "a.npy", {"masks": np.zeros(2, kind)})
    with pytest.raises(RefusedPickle, match="an array of an unknown type"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("end", [0, 5, 60, 130, -1])
def test_a_damaged_file(tmp_path, end):
    write(tmp_path / "a.npy", CELLPOSE)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:end])
    with pytest.raises(ValueError, match=r"a.npy cannot be read as .npy \(.*\); save it again"):
        read_npy(tmp_path / "a.npy")


def test_any_damage_is_an_error_or_harmless(tmp_path):
    write(tmp_path / "a.npy", CELLPOSE)
    content = bytearray((tmp_path / "a.npy").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = content.copy()
        broken[int(rng.integers(128, len(content)))] = int(rng.integers(256))
        (tmp_path / "a.npy").write_bytes(broken)
        said = "a.npy"
        try:
            read_npy(tmp_path / "a.npy")
        except ValueError as error:
            said = str(error)
        assert "a.npy" in said
