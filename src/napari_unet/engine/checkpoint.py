"""One file per model: safetensors with a JSON header, written so that no crash can break it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_unet.core.unet import UNet, UNetConfig
from napari_unet.engine.header import ModelFileError, ModelHeader, read_header
from napari_unet.engine.safe_files import replacing


def save_model(path: Path, network: UNet, header: ModelHeader, *, half: bool = False) -> str:
    """Write a model file and return its SHA-256.

    The file appears whole or not at all, and an older file of that name stays until then.

    Parameters
    ----------
    path
        Where to; the folder is made if it is missing.
    network
        The weights; the header's architecture is replaced by the network's own.
    header
        Everything else.
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
        If it is missing, broken or not a model of this program.
    """
    header = read_header(path)
    try:
        tensors = load(path.read_bytes())
        with torch.device("meta"):
            network = UNet(UNetConfig(**header.architecture))
        network.load_state_dict({k: t.float() for k, t in tensors.items()}, assign=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path} is broken: its weights do not fit its header; take another copy"
        ) from error
    return network.eval(), header


def architecture(network: UNet) -> dict[str, int | float]:
    """Keyword arguments that make the same `UNetConfig` again."""
    # A model of planes says nothing of Z, so that earlier releases read it, too.
    return {key: value for key, value in asdict(network.config).items() if value is not None}
