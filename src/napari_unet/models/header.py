"""The header of a model file. Standard library only, so that listing models loads no torch."""

from __future__ import annotations

import json
import math
import os
import reprlib
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from napari_unet.core.json_types import JsonMapping
from napari_unet.models.header_rules import BrokenModel, check_entries

FORMAT = 1
_KEY = "napari_unet"
# Largest accepted header, in bytes. A header usually takes a few kilobytes; this is enough to name
# 40,000 corrections.
_LARGEST_HEADER = 4_000_000
# So many headers are kept, since a list of models is made at each change of it. A file that changed
# less than 2 s ago is read again: it may change once more without a later time.
_KEPT, _RECENT_NS = 1000, 2_000_000_000
# Exceptions that reading the header of another program's file can raise.
_FOREIGN = (
    OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
# The shape of each array by its name.
Shapes = dict[str, tuple[int, ...]]
# Accepted number formats of weights, and the bytes that one number takes.
_FLOATING = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


class ModelFileError(ValueError):
    """Raised when a file is not a model of this program, or is broken."""


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """Header of a model file (JSON in the safetensors metadata).

    Parameters
    ----------
    name
        The model's name; all its versions share it.
    architecture
        Keyword arguments of `UNetConfig`.
    classes
        Class names, background first.
    normalisation
        Keyword arguments of `Normalisation`.
    postprocess
        Keyword arguments of `label_instances` that suit the model.
    pixel_size_um
        Pixel size of the training images in micrometres, None if unknown or mixed.
    diameter_px
        Diameter of the cells that the model is for, in pixels of their images; None for all sizes.
    zoom
        Factor by which such images are resized before the network sees them.
    anisotropy
        Distance between planes, in pixels, of the stacks that the model is for; None for a model
        of planes.
    parent
        SHA-256 of the model file that this one was fine-tuned from, None if trained from scratch.
    trained_on
        What it was trained on, in words, with licences.
    settings
        The training settings (`FinetuneConfig`).
    corrections
        What it was fine-tuned on: names in its collection, and the SHA-256 of what lies there.
    seed
        Seed of all random draws.
    steps
        Optimiser steps taken.
    plans
        Pairs (step, planned steps in all) of each time that steps were planned, where the budget
        was in seconds.
    scores
        Scores by name, before and after, or on held-out data.
    created
        Time of creation, ISO 8601, UTC.
    licence
        SPDX identifier of the weights' licence, empty if not given.
    replay
        Name of a sample in the package of the planes that the model, or the shipped model that it
        comes from, learnt from; empty for none (`learning.replay`).
    foreign
        How the output of a foreign network is understood (`models.exchange.foreign`); empty for a
        network of this program.
    """

    name: str
    architecture: JsonMapping
    classes: tuple[str, ...] = ("background", "cell")
    normalisation: Mapping[str, float] = field(default_factory=dict)
    postprocess: JsonMapping = field(default_factory=dict)
    pixel_size_um: float | None = None
    diameter_px: float | None = None
    zoom: float = 1.0
    anisotropy: float | None = None
    parent: str | None = None
    trained_on: tuple[str, ...] = ()
    settings: JsonMapping = field(default_factory=dict)
    corrections: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    steps: int = 0
    plans: tuple[tuple[int, int], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    licence: str = ""
    replay: str = ""
    foreign: JsonMapping = field(default_factory=dict)
    format: int = FORMAT

    @property
    def for_stacks(self) -> bool:
        """Whether the model segments whole stacks, not single planes."""
        return self.architecture.get("z_depth") is not None

    def to_metadata(self) -> dict[str, str]:
        """Return the header as safetensors metadata."""
        content = asdict(self)
        if self.anisotropy is None:
            del content["anisotropy"]
        if not self.foreign:
            del content["foreign"]
        return {_KEY: json.dumps(content, sort_keys=True)}


def read_header(path: Path) -> ModelHeader:
    """Read the header of a model file without reading its weights.

    Raises
    ------
    ModelFileError
        If the file is missing, is not a safetensors file or not of this program, or if its size or
        an entry of its header is wrong.
    """
    try:
        is_now = path.stat()
        changed_ns = max(is_now.st_mtime_ns, is_now.st_ctime_ns)
    except (OSError, ValueError):
        return _header_of(path)
    if abs(time.time_ns() - changed_ns) < _RECENT_NS:
        return _header_of(path)
    return _known_header(path, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns, changed_ns)


def _header_of(path: Path) -> ModelHeader:
    with open_model(path) as (_, header, _, _):
        return header


@lru_cache(_KEPT)
def _known_header(path: Path, *file: int) -> ModelHeader:
    """Return the header of a file that is still the one of these numbers."""
    return _header_of(path)


@contextmanager
def open_model(path: Path) -> Iterator[tuple[BinaryIO, ModelHeader, Shapes, Mapping[str, str]]]:
    """Open a model file; yield the file, its header, the shapes of its arrays, and all metadata.

    Raises
    ------
    ModelFileError
        As `read_header`.
    """
    try:
        # This is checked before the file is opened, because opening a pipe waits for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(
                f"{path} is not a model of napari-unet: it is no file; give a .safetensors file"
            )
        file = path.open("rb")
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}; give the path of a model file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        why = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{path} cannot be read: {why}; give another file") from error
    with file:
        yield file, *_read(path, file)


def _read(path: Path, file: BinaryIO) -> tuple[ModelHeader, Shapes, Mapping[str, str]]:
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LARGEST_HEADER:
            raise ValueError("header too long")
        table = json.loads(file.read(length), object_pairs_hook=_each_once)
        metadata = table.pop("__metadata__")
        header = parse_metadata(metadata)
        n_bytes = os.fstat(file.fileno()).st_size - 8 - length
        return header, _shapes(table, header, n_bytes), metadata
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except BrokenModel as error:
        raise ModelFileError(f"{path} is broken: {error}; take another copy") from error
    except _FOREIGN as error:
        raise ModelFileError(
            f"{path} is not a model of napari-unet; give a .safetensors file that it saved"
        ) from error


def parse_metadata(metadata: Mapping[str, str]) -> ModelHeader:
    """Return the model header in safetensors metadata.

    Raises
    ------
    ModelFileError
        If the model has a newer format than this program reads.
    BrokenModel
        If an entry has the wrong type or is out of range.
    KeyError, TypeError, ValueError
        If the metadata are not a model header.
    """
    content = json.loads(metadata[_KEY], object_pairs_hook=_each_once)
    version = content["format"]
    if type(version) is int and version > FORMAT:
        raise ModelFileError(
            f"the model has format {reprlib.repr(version)} and this version reads up to {FORMAT}; "
            "update napari-unet"
        )
    known = {f.name for f in fields(ModelHeader)}
    content = {key: value for key, value in content.items() if key in known}
    check_entries(content)
    content["plans"] = tuple(tuple(pair) for pair in content.get("plans", ()))
    for key in ("classes", "trained_on"):
        if key in content:
            content[key] = tuple(content[key])
    return ModelHeader(**content)


def _shapes(table: JsonMapping, header: ModelHeader, n_bytes: int) -> Shapes:
    """Return the shape of each array; check that all arrays fill `n_bytes` without a gap."""
    shapes, places = {}, []
    # A foreign model is the bytes of an ONNX graph.
    types = {"U8": 1} if header.foreign else _FLOATING
    for name, entry in table.items():
        dtype, shape, place = (entry[key] for key in ("dtype", "shape", "data_offsets"))
        named = f"its weights {reprlib.repr(name)}"
        if dtype not in types:
            raise BrokenModel(
                f"{named} are {reprlib.repr(dtype)}, and should be one of {', '.join(types)}"
            )
        for numbers, counts in ((shape, range(9)), (place, (2,))):
            whole = isinstance(numbers, list) and all(type(n) is int for n in numbers)
            if not whole or len(numbers) not in counts or not all(0 <= n < 2**48 for n in numbers):
                raise BrokenModel(f"{named} have a shape or a place that cannot be")
        if math.prod(shape) * types[dtype] != place[1] - place[0]:
            raise BrokenModel(
                f"{named} are {times(shape)}, which does not fit {place[1] - place[0]} bytes"
            )
        shapes[name] = tuple(shape)
        places.append(place)
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise BrokenModel("its weights overlap, or there is something between them")
        end = last
    if end != n_bytes:
        raise BrokenModel(f"{n_bytes} bytes of weights are in it, and {end} should be")
    return shapes


def times(shape: Iterable[int]) -> str:
    """Return a shape in words for the user, for example "2 x 32 x 1 x 1"."""
    return " x ".join(map(str, shape)) or "one number"


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object as a dict; raise BrokenModel if two entries have the same name."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BrokenModel(f"its entry {reprlib.repr(twice)} is there twice, and should be once")
    return found
