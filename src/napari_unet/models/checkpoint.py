"""Reading and writing of model files: safetensors with a JSON header.

A crash while a file is written leaves no broken file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_unet.core.network.unet import UNet, UNetConfig
from napari_unet.io.atomic import replacing
from napari_unet.models.header import ModelFileError, ModelHeader, open_model, times


def save_model(path: Path, network: UNet, header: ModelHeader, *, half: bool = False) -> str:
    """Write a model file and return its SHA-256.

    The file appears whole or not at all, and an older file of that name stays until then.

    Parameters
    ----------
    path
        The file to write; its folder is made if it is missing.
    network
        The network whose weights are stored.
    header
        The header; its architecture is replaced by the one of the network.
    half
        Store the weights in 16 bits; they are 32 bits again when loaded.
    """
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in network.state_dict().items()
    }
    header = replace(header, architecture=architecture(network))
    content = save(tensors, metadata=header.to_metadata())
    with replacing(path) as part:
        part.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_model(path: Path) -> tuple[UNet, ModelHeader]:
    """Read a model file: the network in float32 on the CPU, in evaluation mode, and its header.

    Nothing in the file is executed.

    Raises
    ------
    ModelFileError
        If the file is missing, broken or not a model of this program.
    """
    with open_model(path) as (file, header, shapes, _):
        if header.foreign:
            return _load_foreign(path, file, shapes, header), header
        with torch.device("meta"):
            network = UNet(UNetConfig(**header.architecture))
        wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        # The weights are read only after their shapes were compared with the header.
        wrong = _first_difference(shapes, wanted)
        if not wrong:
            file.seek(0)
            try:
                tensors = {name: t.float() for name, t in load(file.read()).items()}
            except (SafetensorError, OSError, ValueError) as error:
                raise _broken(path, "its weights cannot be read") from error
            wrong = next((n for n, t in tensors.items() if not torch.isfinite(t).all()), "")
            wrong = wrong and f"its weights {wrong!r} hold NaN or inf, and should be numbers"
    if wrong:
        raise _broken(path, wrong)
    network.load_state_dict(tensors, assign=True)
    return network.eval(), header


def _load_foreign(
    path: Path, file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], header: ModelHeader
) -> UNet:
    from napari_unet.models.exchange.onnx_network import GRAPH, OnnxNetwork

    if set(shapes) != {GRAPH}:
        raise _broken(path, f"it should hold one array, {GRAPH!r}")
    file.seek(0)
    try:
        graph = load(file.read())[GRAPH].numpy().tobytes()
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, "its ONNX graph cannot be read") from error
    return OnnxNetwork(graph, header).eval()


def architecture(network: UNet) -> dict[str, int | float]:
    """Return the keyword arguments that make the same `UNetConfig` again."""
    # A model of planes stores no entry for Z, so that earlier releases can read it.
    return {key: value for key, value in asdict(network.config).items() if value is not None}


def _first_difference(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> str:
    """Return in words the first weights that do not fit the architecture; "" if all fit."""
    for name, shape in wanted.items():
        if name not in found:
            return f"its weights {name!r} are missing, and should be {times(shape)}"
        if found[name] != shape:
            return f"its weights {name!r} are {times(found[name])}, and should be {times(shape)}"
    extra = next((name for name in found if name not in wanted), None)
    return "" if extra is None else f"its weights {extra!r} have no place in its architecture"


def _broken(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"{path} is broken: {what}; take another copy")
