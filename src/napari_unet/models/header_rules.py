"""Allowed types and ranges of the entries of a model file's header. Standard library only.

A model file may come from a stranger. Values that pass these rules cannot hang the program, fill
the memory, or name a file outside the folder of the models.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_unet.core.json_types import JsonMapping

# A model's name must be a valid file name on every system. Windows reserves some names for devices,
# with any text after a dot.
NAME = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[a-z0-9][a-z0-9_.-]{0,99}", re.I)
SUFFIX = ".safetensors"


class BrokenModel(ValueError):
    """Raised when a model file is wrong; the message says how, without the name of the file."""


@dataclass(frozen=True)
class _Rule:
    """What an entry should be, in words, and a function that tells whether a value fits."""

    words: str
    holds: Callable[[Any], object]


def is_name(name: object) -> bool:
    """Return whether this can be a model's name: a file name on every system, and no path."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return False
    return not name.endswith((SUFFIX, "."))


def check_entries(content: JsonMapping) -> None:
    """Check that each entry of a header has the right type and is in range.

    Raises
    ------
    BrokenModel
        If one does not; the message gives the entry, its value, and what it should be.
    """
    for name in _NEEDED:
        if name not in content:
            raise BrokenModel(f"its entry {name} is missing, and should be {_TOP[name].words}")
    for name, rule in _TOP.items():
        if name in content:
            _check(name, content[name], rule)
    for name, rules in _TABLES.items():
        for key, value in content.get(name, {}).items():
            if key not in rules:
                raise BrokenModel(
                    f"its entry {name} has {reprlib.repr(key)} in it, and should have none but "
                    f"{', '.join(rules)}"
                )
            _check(f"{name}.{key}", value, rules[key])
    shape = content["architecture"]
    depth, z_depth = shape.get("depth", 4), shape.get("z_depth")
    if z_depth is not None and z_depth > depth:
        raise BrokenModel(
            f"its entry architecture.z_depth is {z_depth}, and should be at most {depth}"
        )
    found, wanted = len(content.get("classes", _TWO)), shape.get("n_classes", 2)
    if found != wanted:
        raise BrokenModel(
            f"its entry classes names {found}, and should name {wanted}, as its entry "
            "architecture.n_classes says"
        )
    foreign = content.get("foreign")
    if foreign:
        _check_foreign(foreign, shape, depth)
    low, high = (
        content.get("normalisation", {}).get(end, default)
        for end, default in (("low", 1.0), ("high", 99.8))
    )
    if low >= high:
        raise BrokenModel(
            f"its entry normalisation.low is {low}, and should be below its high, {high}"
        )


def _check_foreign(foreign: JsonMapping, shape: JsonMapping, depth: int) -> None:
    """Check that a foreign network and the U-Net that it is treated as fit together."""
    if foreign.keys() != _TABLES["foreign"].keys():
        raise BrokenModel(f"its entry foreign should have {', '.join(_TABLES['foreign'])}")
    fits = shape.get("distance", False) == (foreign["boundary"] >= 0)
    if not fits or shape.get("n_classes", 2) != 2 or shape.get("z_depth") is not None or depth > 6:
        raise BrokenModel(
            "its entry architecture does not fit its entry foreign: 2 classes, a distance if there "
            "is a boundary, no z_depth and a depth up to 6 are needed"
        )


def _check(name: str, value: object, rule: _Rule) -> None:
    if not rule.holds(value):
        raise BrokenModel(f"its entry {name} is {reprlib.repr(value)}, and should be {rule.words}")


def _whole(low: int, high: int) -> _Rule:
    return _Rule(
        f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high
    )


def _number(low: float, high: float) -> _Rule:
    # NaN fails both comparisons, so it is refused too.
    return _Rule(
        f"a number from {low:g} to {high:g}",
        lambda v: type(v) in (int, float) and low <= v <= high,
    )


def _or_none(rule: _Rule) -> _Rule:
    return _Rule(f"{rule.words}, or null", lambda v: v is None or rule.holds(v))


def _list_of(rule: _Rule, least: int = 0) -> _Rule:
    return _Rule(
        f"a list{f' of {least} or more' if least else ''}, each {rule.words}",
        lambda v: isinstance(v, list) and len(v) >= least and all(map(rule.holds, v)),
    )


def _table_of(rule: _Rule) -> _Rule:
    return _Rule(
        f"a table, each of its values {rule.words}",
        lambda v: (
            isinstance(v, dict) and all(map(_TEXT.holds, v)) and all(map(rule.holds, v.values()))
        ),
    )


def _is_text(value: object) -> bool:
    """Return whether a value is text that is safe to print on a terminal."""
    # Control characters could change the terminal, and lone surrogates cannot be printed.
    return isinstance(value, str) and not any(
        unicodedata.category(c) in ("Cc", "Cs") for c in value if c not in "\n\t"
    )


_TWO = ("background", "cell")
_TEXT = _Rule("text without control characters", _is_text)
_TABLE = _Rule("a table", lambda v: isinstance(v, dict))
_BOOLEAN = _Rule("true or false", lambda v: isinstance(v, bool))
_CLASS = _Rule(
    "a name of 1 to 100 characters", lambda v: _is_text(v) and v.strip() and len(v) <= 100
)
_HASH = _Rule(
    "64 hexadecimal digits",
    lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) is not None,
)
_ANY_NUMBER = _Rule("a number", _number(-1e300, 1e300).holds)
_PLAIN = _Rule(
    "a number, text, true, false or null",
    lambda v: v is None or isinstance(v, bool) or _ANY_NUMBER.holds(v) or _TEXT.holds(v),
)
_SETTING = _Rule(
    f"{_PLAIN.words}, or a table of these", lambda v: _PLAIN.holds(v) or _table_of(_PLAIN).holds(v)
)
_COUNT = _whole(0, 2**53)
_PAIR = _Rule(
    "a pair of whole numbers",
    lambda v: isinstance(v, list) and len(v) == 2 and all(map(_COUNT.holds, v)),
)
_NEEDED = ("format", "name", "architecture")
_TOP = {
    "format": _whole(1, 2**53),
    "name": _Rule("up to 100 letters, digits, '-', '_' and '.'", is_name),
    "architecture": _TABLE,
    "classes": _list_of(_CLASS, 2),
    "normalisation": _TABLE,
    "postprocess": _TABLE,
    "pixel_size_um": _or_none(_number(1e-6, 1e6)),
    "diameter_px": _or_none(_number(0.5, 10_000)),
    # These limits turn an image of 1000 x 1000 px into one of 10 to 16,000 px on each side.
    "zoom": _number(0.01, 16),
    "anisotropy": _or_none(_number(0.001, 1000)),
    "parent": _or_none(_HASH),
    # Of a file in the package.
    "replay": _Rule("a model's name, or empty", lambda v: v == "" or is_name(v)),
    "trained_on": _list_of(_TEXT),
    "settings": _table_of(_SETTING),
    "corrections": _table_of(_HASH),
    "seed": _COUNT,
    "steps": _COUNT,
    "plans": _list_of(_PAIR),
    "scores": _table_of(_ANY_NUMBER),
    "created": _TEXT,
    "licence": _TEXT,
    "foreign": _TABLE,
}
_TABLES = {
    "foreign": {
        "told": _TEXT,
        "foreground": _whole(0, 2),
        "boundary": _whole(-1, 2),
        "sigmoid": _BOOLEAN,
        "moments": _BOOLEAN,
    },
    # Weights are not made before those of the file have these shapes, so width costs nothing.
    "architecture": {
        "depth": _whole(1, 8),
        "width": _whole(1, 1024),
        "in_channels": _whole(1, 128),
        # Classes of pixels are kept as uint8.
        "n_classes": _whole(2, 256),
        "dropout": _number(0, 0.999),
        "distance": _BOOLEAN,
        "z_depth": _or_none(_whole(0, 8)),
    },
    "normalisation": {
        "low": _number(0, 100),
        "high": _number(0, 100),
        "clip": _number(0, 1e6),
    },
    "postprocess": {
        "threshold": _number(0.001, 0.999),
        "seed_threshold": _or_none(_number(0, 1)),
        "min_size_px": _number(0, 1e9),
        "gap_px": _whole(0, 64),
        "radius_px": _number(0.1, 10_000),
        "largest_px": _number(64, 1e6),
        "peak_threshold": _or_none(_number(0, 1)),
    },
}
