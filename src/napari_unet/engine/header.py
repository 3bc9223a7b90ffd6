"""What a model file says of itself. Standard library only: listing models loads no torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT = 1
_KEY = "napari_unet"
# A header is a few kilobytes; a length beyond this is not a model file's.
_LARGEST_HEADER = 100_000_000


class ModelFileError(ValueError):
    """A file is no model of this program, or is broken."""


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
        Diameter of the cells that it is for, in pixels of their images; None for all sizes.
    zoom
        Factor by which it resizes such images before the network sees them.
    anisotropy
        Distance of planes, in pixels, of the stacks that it is made for; None for one of planes.
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
        Pairs: after which step how many were planned in all, where the budget was in seconds.
    scores
        Scores by name, before and after, or on held-out data.
    created
        Time of creation, ISO 8601, UTC.
    licence
        SPDX identifier of the weights' licence, empty if not given.
    replay
        Name of the sample in the package of what it, or the model that it goes back to, learnt
        from; empty for none (`service.replay`).
    """

    name: str
    architecture: Mapping[str, Any]
    classes: tuple[str, ...] = ("background", "cell")
    normalisation: Mapping[str, float] = field(default_factory=dict)
    postprocess: Mapping[str, Any] = field(default_factory=dict)
    pixel_size_um: float | None = None
    diameter_px: float | None = None
    zoom: float = 1.0
    anisotropy: float | None = None
    parent: str | None = None
    trained_on: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    corrections: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    steps: int = 0
    plans: tuple[tuple[int, int], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    licence: str = ""
    replay: str = ""
    format: int = FORMAT

    @property
    def for_stacks(self) -> bool:
        """Whether it looks at stacks, not at planes."""
        return self.architecture.get("z_depth") is not None

    def to_metadata(self) -> dict[str, str]:
        """The header as safetensors metadata."""
        content = asdict(self)
        if self.anisotropy is None:
            del content["anisotropy"]
        return {_KEY: json.dumps(content, sort_keys=True)}


def read_header(path: Path) -> ModelHeader:
    """Read a model file's header, and nothing else of it.

    Raises
    ------
    ModelFileError
        If the file is missing, not a safetensors file, or not of this program.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("header too long")
            content = json.loads(file.read(length))
        return parse_metadata(content["__metadata__"])
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}; give the path of a model file") from None
    except (OSError, struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path} is not a model of napari-unet; give a .safetensors file that it saved"
        ) from error


def parse_metadata(metadata: Mapping[str, str]) -> ModelHeader:
    """Header of safetensors metadata.

    Raises
    ------
    ModelFileError
        If the model was made by a newer format.
    KeyError, TypeError, ValueError
        If the metadata are not a model header.
    """
    content = json.loads(metadata[_KEY])
    if content["format"] > FORMAT:
        raise ModelFileError(
            f"the model has format {content['format']} and this version reads up to {FORMAT}; "
            "update napari-unet"
        )
    known = {f.name for f in fields(ModelHeader)}
    content = {key: value for key, value in content.items() if key in known}
    content["plans"] = tuple((int(a), int(b)) for a, b in content.get("plans", ()))
    for key in ("classes", "trained_on"):
        content[key] = tuple(content[key])
    return ModelHeader(**content)
