import io
import zlib
from contextlib import suppress

import numpy as np
import pytest

from napari_unet.serving.arrays import HEAD_BYTES, check_array, pack_array, unpack_array

LARGE = 1 << 20


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=">u2").reshape(3, 4), np.array(True), np.zeros((0, 5)),
        np.random.default_rng(0).normal(size=(2, 100, 90)), np.arange(24).reshape(4, 6).T,
        np.arange(40, dtype=np.uint8)[::3],
    ],
)  # fmt: skip
def test_an_array_comes_back(array):
    found = unpack_array(pack_array(array), LARGE)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    found[...] = 0  # it can be written to


def test_what_is_declared_is_known_before_it_is_unpacked():
    content = pack_array(np.zeros((300, 400), np.uint16))
    declared = check_array(content[:HEAD_BYTES], len(content), LARGE)
    assert (declared.shape, declared.dtype, declared.n_bytes) == ((300, 400), np.uint16, 240_000)
    for unpack in (unpack_array, lambda c, n: check_array(c[:HEAD_BYTES], len(c), n)):
        with pytest.raises(ValueError, match="larger than 1000"):
            unpack(content, 1000)


@pytest.mark.parametrize(
    "array", [np.array([None]), np.array(["a"]), np.zeros(2, "u1,u2"), np.array(1j)]
)
def test_what_holds_no_numbers_is_refused(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, (1, 0), allow_pickle=True)
    with pytest.raises(ValueError, match="send whole numbers, floats or bool"):
        unpack_array(zlib.compress(file.getvalue()), LARGE)


def test_every_change_is_refused_or_gives_an_array():
    rng = np.random.default_rng(0)
    content = pack_array(np.arange(200, dtype=np.uint16))
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        with suppress(ValueError):
            found = unpack_array(bytes(changed[: rng.integers(len(content) + 1)]), LARGE)
            assert found.nbytes <= LARGE


@pytest.mark.parametrize("change", [-1, 1])
def test_more_or_less_than_was_declared(change):
    plain = zlib.decompress(pack_array(np.zeros(100, np.uint8)))
    content = plain[:-1] if change < 0 else plain + b"x"
    with pytest.raises(ValueError, match="should have 100 bytes"):
        unpack_array(zlib.compress(content), LARGE)
    with pytest.raises(ValueError, match="should have 100 bytes"):
        unpack_array(zlib.compress(plain) + b"more", LARGE)
