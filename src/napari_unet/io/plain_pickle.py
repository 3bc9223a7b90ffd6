"""Read .npy files that hold pickled Python objects, without running anything that they hold.

A pickle names functions and says with what to call them. Here only the names with which NumPy
writes arrays and numbers are known, and each stands for a small class or function of this module:
nothing outside of it is imported or called. Everything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# Kinds of numbers that an array may hold: bool, whole numbers, floats, complex, texts, bytes.
_KINDS = "biufcUS"


class RefusedPickle(ValueError):
    """A file holds something else than arrays, numbers, texts, lists and dicts."""


class _Type:
    """Stands for `numpy.dtype`: the type of an array."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not (isinstance(code, str) and code and (code[0] in _KINDS or code == "O8")):
            raise RefusedPickle("an array of an unknown type")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type itself."""
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stands for an array: its numbers, or the objects in it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        if not isinstance(kind, _Type):
            raise RefusedPickle("an array without a type")
        if kind.code == "O8":
            if not isinstance(content, list):
                raise RefusedPickle("an array of objects that are no list")
            self.value = content
        else:
            self.value = _numbers(content, kind, shape, "F" if is_fortran else "C")


class _Kind:
    """Stands for `numpy.ndarray`, which a pickle only names."""

    __slots__ = ()


def _numbers(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    return np.frombuffer(content, kind.numpy).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(content: object, kind: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.value = _numbers(content, kind, shape, order)
    return array


def _scalar(kind: Any, content: Any) -> object:
    return np.frombuffer(content, kind.numpy)[0].item()


def _encode(text: object, _: object) -> bytes:
    """Stands for `_codecs.encode`, with which old pickles hold bytes."""
    if not isinstance(text, str):
        raise RefusedPickle("bytes that are no text")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for `bytes`, with which old pickles hold no bytes."""
    return b""


_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _KNOWN:
            raise RefusedPickle(ascii(f"{module}.{name}"[:80]).strip("'"))
        return _KNOWN[module, name]


def read_npy(path: Path) -> Any:
    """Return what a .npy file holds: an array, or a dict or list with arrays in it.

    Raises
    ------
    ValueError
        If the file is damaged, or holds anything else; nothing of it was run.
    """
    try:
        with path.open("rb") as file:
            if not _holds_objects(file):
                file.seek(0)
                return np.load(file, allow_pickle=False)
            found = _unwrapped(_Unpickler(file).load())
    except RefusedPickle as error:
        raise RefusedPickle(
            f"{path} holds {error}, which is no array and no plain value; it was refused, and "
            "nothing in it was run: give a file that Cellpose or NumPy wrote"
        ) from error
    except OSError:
        raise
    except Exception as error:
        # A damaged pickle raises almost anything.
        raise ValueError(
            f"{path} cannot be read as .npy ({' '.join(str(error).split())}); save it again"
        ) from error
    # NumPy puts an object into an array of one element.
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _holds_objects(file: IO[bytes]) -> bool:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    return read(file)[2].hasobject


def _unwrapped(value: object) -> Any:
    """Return the arrays themselves in the place of what stands for them, one level deep."""
    if isinstance(value, _Array):
        value = value.value
    if isinstance(value, list):
        return [_unwrapped(item) if isinstance(item, _Array | dict) else item for item in value]
    if isinstance(value, dict):
        return {
            key: item.value if isinstance(item, _Array) else item for key, item in value.items()
        }
    return value
