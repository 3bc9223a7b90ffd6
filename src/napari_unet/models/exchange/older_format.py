"""Descriptions of the format 0.4 of bioimage.io, as those of 0.5 say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_unet.core.json_types import JsonMapping, JsonObject

_TYPES = {"b": "batch", "c": "channel"}
_STEPS = ("preprocessing", "postprocessing")
# More channels are in no image.
_MOST_CHANNELS = 128


def in_new_format(described: JsonMapping) -> JsonMapping:
    """Return a description of the format 0.5; one of 0.4 is translated, others stay.

    Of 0.4 it says what is needed to use a model: tensors, their preparation, weights. What cannot
    be translated is left as it is, and so refused by whoever reads it.
    """
    if not str(described.get("format_version")).startswith("0.4."):
        return described
    try:
        inputs = _tensors(described, "inputs", "test_inputs")
        outputs = _tensors(described, "outputs", "test_outputs")
        for tensor, old in zip(outputs, described["outputs"], strict=True):
            _add_reference(tensor, old, inputs)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return described
    return {**described, "format_version": "0.5.0", "inputs": inputs, "outputs": outputs}


def _tensors(described: JsonMapping, key: str, tests: str) -> list[JsonObject]:
    return [
        _tensor(old, test)
        for old, test in zip(described[key], described.get(tests, described[key]), strict=True)
    ]


def _tensor(old: JsonMapping, test: object) -> JsonObject:
    shape = old["shape"]
    least = shape.get("min") if isinstance(shape, Mapping) else shape
    axes = []
    for n, letter in enumerate(old["axes"]):
        axis: JsonObject = {"type": _TYPES.get(letter, "space")}
        if letter == "c" and least is not None:
            axis["channel_names"] = _names(least[n])
        elif axis["type"] == "space":
            axis |= {"id": letter, "halo": (old.get("halo") or [0] * (n + 1))[n]}
            if least is not None:
                axis["size"] = least[n]
            if isinstance(shape, Mapping) and least is not None:
                axis["size"] = {"min": least[n], "step": shape["step"][n]}
        axes.append(axis)
    steps = {key: [_step(s) for s in old.get(key, ())] for key in _STEPS}
    return {"id": old["name"], "axes": axes, "test_tensor": {"source": test}, **steps}


def _step(old: JsonMapping) -> JsonObject:
    kwargs = dict(old.get("kwargs") or {})
    mode = kwargs.pop("mode", "fixed" if "mean" in kwargs else "per_sample")
    if isinstance(kwargs.get("axes"), str):
        kwargs["axes"] = [_TYPES.get(letter, letter) for letter in kwargs["axes"]]
    # Numbers that are fixed, or those of a whole dataset, are not done here.
    name = old["name"] if mode == "per_sample" else f"{old['name']} ({mode})"
    return {"id": name, "kwargs": kwargs}


def _add_reference(tensor: JsonObject, old: JsonMapping, inputs: Sequence[JsonMapping]) -> None:
    """Say how the size of an output follows from that of the input."""
    shape = old["shape"]
    if "reference_tensor" not in shape:
        return
    given = next(each for each in inputs if each["id"] == shape["reference_tensor"])
    sizes = zip(tensor["axes"], given["axes"], shape["scale"], shape["offset"], strict=True)
    for axis, before, scale, offset in sizes:
        if axis["type"] == "channel":
            axis["channel_names"] = _names(scale * len(before["channel_names"]) + 2 * offset)
        elif axis["type"] == "space":
            reference = {"tensor_id": given["id"], "axis_id": axis["id"]}
            axis["size"] = reference | {"offset": int(2 * offset)}
            axis["scale"] = 1 if scale == 1 else 1 / scale


def _names(count: float) -> list[str]:
    # The format has no names of channels; one alone is the foreground.
    if not 1 <= count <= _MOST_CHANNELS:
        raise ValueError(f"{count} channels")
    return [f"channel {n}" for n in range(int(count))]
