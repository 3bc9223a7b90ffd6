"""What the description of a foreign model means here, or why it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from napari_unet.core.json_types import JsonMapping
from napari_unet.core.network.framed import LESS_PX
from napari_unet.core.network.unet import halo_px
from napari_unet.core.tiling import smallest_input_px
from napari_unet.models.header import ModelFileError, ModelHeader
from napari_unet.models.header_rules import is_name

# Words in the name of an output channel that say what it is.
_BACKGROUND = ("background", "bg")
_BOUNDARY = ("bound", "border", "edge", "contour", "outline", "membrane")
_FOREGROUND = ("foreground", "fg", "cell", "nucle", "interior", "inside", "mask", "object")
# A foreign network is tiled like a U-Net of a depth: of this one, or a deeper one where its halo or
# its steps ask for it.
_DEPTH, _DEEPEST = 4, 6
# Relative distances, here foreground without boundary, above which cells are split.
_SEEDS = 0.5
# No clipping.
_NO_CLIP = 1e6


def foreign_header(path: Path, described: Mapping[str, object]) -> ModelHeader:
    """Return the header of a foreign model, from the description in its archive.

    Raises
    ------
    ModelFileError
        If it has no weights that can be used, or needs something that is not done here.
    """

    def refuse(why: str) -> ModelFileError:
        return ModelFileError(f"{path} cannot be used here: {why}")

    if not str(described.get("format_version")).startswith("0.5"):
        raise refuse(
            "its description cannot be read as the format "
            f"{described.get('format_version')!s:.20}; 0.4 and 0.5 are read here, and bioimageio "
            "update-format makes a new file"
        )
    weights = _of(described, "weights")
    if not any(isinstance(weights.get(kind), Mapping) for kind in ("onnx", "pytorch_state_dict")):
        raise refuse(
            "it has neither ONNX weights nor a PyTorch state_dict; add ONNX weights with "
            "bioimageio add-weights"
        )
    try:
        given, found = (_only(described.get(key), key) for key in ("inputs", "outputs"))
        n_channels = len(_channel_names(given, "input"))
        names = _channel_names(found, "output")
        halo, step, least = _sizes(given, found)
        foreground, boundary = _meaning(names)
        normalisation, moments = _normalisation(given, n_channels)
        sigmoid = _postprocess(found)
        depth = _depth(halo, step, least)
    except _Refused as error:
        raise refuse(str(error)) from None
    title = str(described.get("name"))[:100]
    name = re.sub(r"[^a-z0-9_-]+", "-", title.lower()).strip("-_")
    told = f"cells are where {names[foreground]!r} is high"
    if boundary is not None:
        told += f", divided where {names[boundary]!r} is"
    licence = described.get("license")
    return ModelHeader(
        name=name if is_name(name) else "foreign",
        architecture={
            "depth": depth,
            "in_channels": n_channels,
            "n_classes": 2,
            "distance": boundary is not None,
        },
        normalisation=normalisation,
        postprocess={} if boundary is None else {"seed_threshold": _SEEDS},
        trained_on=("not recorded: a model of bioimage.io",),
        licence=licence if isinstance(licence, str) else "",
        foreign={
            "told": told,
            "foreground": foreground,
            "boundary": -1 if boundary is None else boundary,
            "sigmoid": sigmoid,
            "moments": moments,
        },
    )


class _Refused(Exception):
    """Says why a model cannot be used."""


def _of(table: object, key: str) -> JsonMapping:
    value = table.get(key) if isinstance(table, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _only(tensors: object, what: str) -> JsonMapping:
    if isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], Mapping):
        return tensors[0]
    count = len(tensors) if isinstance(tensors, list) else 0
    raise _Refused(f"it has {count} {what}, and 1 is needed")


def _axes(tensor: Mapping[str, object], what: str) -> Sequence[JsonMapping]:
    axes = tensor.get("axes")
    axes = [a for a in axes if isinstance(a, Mapping)] if isinstance(axes, list) else []
    found = [a.get("type") if a.get("type") != "space" else a.get("id") for a in axes]
    if found != ["batch", "channel", "y", "x"]:
        raise _Refused(
            f"its {what} has the axes {', '.join(map(str, found[:6]))}, and batch, channel, y, x "
            "are needed"
        )
    return axes


def _channel_names(tensor: Mapping[str, object], what: str) -> list[str]:
    names = _axes(tensor, what)[1].get("channel_names")
    if isinstance(names, list) and 1 <= len(names) <= 128:
        return [str(name)[:100] for name in names]
    raise _Refused(f"the channels of its {what} have no names")


def _sizes(given: Mapping[str, object], found: Mapping[str, object]) -> tuple[int, int, int]:
    """Return the halo on each side, the step of valid input sizes, and the least of them."""
    halos, steps, leasts = [0], [1], [1]
    for before, after in zip(_axes(given, "input")[2:], _axes(found, "output")[2:], strict=True):
        size, reference = before.get("size"), _of(after, "size")
        if not isinstance(size, Mapping):
            raise _Refused(f"it takes images of {size!s:.20} px only, and others come up")
        step, least = (_whole(size.get(key)) for key in ("step", "min"))
        offset, halo = _whole(reference.get("offset", 0)), _whole(after.get("halo", 0))
        if before.get("scale", 1) != after.get("scale", 1) or not reference:
            raise _Refused("its output is of another scale than its input")
        if step < 1 or least % step:
            raise _Refused(f"its sizes begin at {least} px, which is no multiple of {step} px")
        halos.append(halo - offset // 2)
        steps.append(step)
        leasts.append(least)
    return max(halos), max(steps), max(leasts)


def _whole(value: object) -> int:
    if type(value) is int and abs(value) < 100_000:
        return value
    raise _Refused(f"one of its sizes is {value!s:.20}, and should be a whole number")


def _depth(halo: int, step: int, least: int) -> int:
    """Return the depth of the U-Net like which it is tiled."""
    for depth in range(_DEPTH, _DEEPEST + 1):
        fits = step > 0 and 2**depth % step == 0
        if fits and halo <= halo_px(depth) and least <= smallest_input_px(depth) + LESS_PX:
            return depth
    raise _Refused(
        f"it takes steps of {step} px, a halo of {halo} px and {least} px or more; steps that "
        f"divide {2**_DEEPEST}, a halo up to {halo_px(_DEEPEST)} and tiles of "
        f"{smallest_input_px(_DEEPEST) + LESS_PX} are what is done here"
    )


def _meaning(names: Sequence[str]) -> tuple[int, int | None]:
    """Return which channel is the foreground, and which one the boundary, if any."""

    def channels(words: Sequence[str]) -> list[int]:
        return [i for i, name in enumerate(names) if any(w in name.lower() for w in words)]

    background, boundary = channels(_BACKGROUND), channels(_BOUNDARY)
    taken = {*background, *boundary}
    foreground = [i for i in channels(_FOREGROUND) if i not in taken]
    others = [i for i in range(len(names)) if i not in taken]
    if not foreground and len(others) == 1:
        foreground = others
    if len(foreground) != 1 or len(boundary) > 1 or len(names) > 3:
        raise _Refused(
            f"its output channels are {', '.join(names[:6])}; one of foreground, and at most one "
            "of boundaries and one of background, are needed"
        )
    return foreground[0], boundary[0] if boundary else None


def _steps(tensor: Mapping[str, object], key: str) -> list[tuple[str, JsonMapping]]:
    steps = tensor.get(key) or []
    if not isinstance(steps, list):
        raise _Refused(f"its {key} is no list")
    named = [(str(_as_table(s).get("id")), _of(s, "kwargs")) for s in steps]
    return [(name, kwargs) for name, kwargs in named if name != "ensure_dtype"]


def _as_table(value: object) -> JsonMapping:
    return value if isinstance(value, Mapping) else {}


def _normalisation(tensor: Mapping[str, object], n_channels: int) -> tuple[dict[str, float], bool]:
    """Return the normalisation, and whether it is by mean and standard deviation."""
    steps = _steps(tensor, "preprocessing")
    names = [name for name, _ in steps]
    if names in (["scale_range"], ["scale_range", "clip"], ["zero_mean_unit_variance"]):
        kwargs = steps[0][1]
        axes = kwargs.get("axes")
        axes = axes if isinstance(axes, list) else ["channel", "y", "x"]
        together = "channel" in axes and n_channels > 1
        low, high = kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)
        clip = steps[1][1] if len(steps) > 1 else {"min": -_NO_CLIP, "max": 1 + _NO_CLIP}
        numbers = [n for n in (low, high, clip.get("min"), clip.get("max")) if _is_number(n)]
        if len(numbers) == 4 and not together and "y" in axes and "x" in axes:
            low, high, bottom, top = numbers
            if top - 1 == -bottom >= 0:
                moments = names == ["zero_mean_unit_variance"]
                return {"low": low, "high": high, "clip": -bottom}, moments
    raise _Refused(
        f"it prepares images by {', '.join(names) or 'nothing'}, with settings of its own; "
        "scale_range or zero_mean_unit_variance of each channel's pixels is done here"
    )


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _postprocess(tensor: Mapping[str, object]) -> bool:
    """Return whether a sigmoid is to be taken of the output."""
    names = [name for name, _ in _steps(tensor, "postprocessing")]
    if names not in ([], ["sigmoid"]):
        raise _Refused(f"what comes out goes through {', '.join(names)}; only sigmoid is done here")
    return bool(names)
