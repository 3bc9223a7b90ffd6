"""PyTorch weights of an archive, as a model: nothing in them, or beside them, is executed."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from napari_unet.core.json_types import JsonMapping
from napari_unet.core.network.framed import FramedUNet
from napari_unet.core.network.unet import UNetConfig, halo_px
from napari_unet.models.checkpoint import save_model
from napari_unet.models.exchange.archive_files import Archive, read_checked
from napari_unet.models.exchange.onnx_network import save_foreign
from napari_unet.models.exchange.plain_unets import CLOSE, graph_of, plain_unet
from napari_unet.models.header import ModelFileError, ModelHeader

# Largest weights that are read, in bytes, whatever a zip says of them.
_LARGEST = 1 << 30
# Largest test image that is computed, in pixels.
_MOST_PX = 1 << 22
_REMEDY = "add ONNX weights with bioimageio add-weights"
_DEEPEST = 6


def write_from_state_dict(
    target: Path, path: Path, archive: Archive, described: JsonMapping, header: ModelHeader
) -> None:
    """Write the model file of an archive whose weights are a PyTorch state_dict.

    The weights must be those of a U-Net of this program, or of a plain U-Net
    (`plain_unets`), and give the test output of the archive.

    Parameters
    ----------
    target
        The model file.
    path
        Of the archive, for messages.
    archive, described
        Its files, and its description in the format 0.5.
    header
        What `foreign_header` made of the description.

    Raises
    ------
    ModelFileError
        If they are another network's, or broken.
    """
    entry = described["weights"]["pytorch_state_dict"]
    state = _state(read_checked(archive, entry, f"{path}: its PyTorch weights"), path)
    tests = [
        _test_tensor(archive, described, key, f"{path}: its test {key}")
        for key in ("inputs", "outputs")
    ]
    seen = _prepared(tests[0], header)
    own = _own_network(state, described)
    if own is not None and _gives(own, seen, tests[1]):
        classes = ("background", *header.classes[1:])
        names = described["outputs"][0]["axes"][1]["channel_names"][: own.config.n_classes]
        classes = tuple(map(str, names)) if names[0] == "background" else classes
        save_model(target, own, replace(header, foreign={}, postprocess={}, classes=classes))
        return
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    try:
        network = plain_unet(arrays)
    except (ValueError, LookupError):
        network = None
    graph = None if network is None else graph_of(network, seen, tests[1])
    if network is None or graph is None or network.depth > _DEEPEST:
        raise ModelFileError(
            f"{path} cannot be used here: its PyTorch weights are not those of a plain U-Net "
            "(two 3x3 convolutions with ReLU on each level, same size out as in), and Python code "
            f"in it is never run; {_REMEDY}"
        )
    depth = max(header.architecture["depth"], network.depth)
    header = replace(
        header,
        architecture={**header.architecture, "depth": depth},
        foreign={**header.foreign, "sigmoid": False},
    )
    save_foreign(target, graph, header)


def _state(content: bytes, path: Path) -> dict[str, Tensor]:
    """Read weights; what is no tensor of numbers is refused."""
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as zipped:
                if sum(info.file_size for info in zipped.infolist()) > _LARGEST:
                    raise ValueError(f"they have more than {_LARGEST >> 20} MiB")
        if content[8:9] == b"{":
            found: object = load_safetensors(content)
        else:
            with warnings.catch_warnings():
                # That other versions of pickle are rarely tried.
                warnings.simplefilter("ignore")
                found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        while isinstance(found, Mapping) and not _are_tensors(found):
            inner = [v for k, v in found.items() if k in _WRAPPERS and isinstance(v, Mapping)]
            if len(inner) != 1:
                raise ValueError("they are no table of tensors")
            (found,) = inner
        if not isinstance(found, Mapping) or not found:
            raise ValueError("they are no table of tensors")
        state = {str(name): tensor for name, tensor in found.items()}
        if sum(tensor.numel() for tensor in state.values()) > len(content):
            raise ValueError("they have more numbers than bytes")
        if all(name.startswith("module.") for name in state):
            state = {name.removeprefix("module."): t for name, t in state.items()}
        state = {n: t.detach().float().contiguous() for n, t in state.items() if _counts(n)}
        if not all(torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError("they hold NaN or inf")
    except (
        ValueError, RuntimeError, OSError, EOFError, KeyError, TypeError, AttributeError,
        pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, IndexError,
    ) as error:  # fmt: skip
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            why = "they hold more than tensors, and nothing in them is executed"
        raise ModelFileError(
            f"{path}: its PyTorch weights cannot be read: {why}; {_REMEDY}"
        ) from error
    return state


_WRAPPERS = ("state_dict", "model_state_dict", "model")


def _are_tensors(table: Mapping[object, object]) -> bool:
    return all(isinstance(value, Tensor) for value in table.values())


def _counts(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


def _test_tensor(
    archive: Archive, described: JsonMapping, key: str, what: str
) -> NDArray[np.float32]:
    content = read_checked(archive, described[key][0].get("test_tensor"), what)
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ModelFileError(f"{what} cannot be read; take another copy") from error
    if found.ndim != 4 or len(found) != 1 or not 0 < found.size <= _MOST_PX:
        raise ModelFileError(f"{what} have the shape {found.shape}, and (1, C, Y, X) is needed")
    return np.asarray(found, np.float32)


def _prepared(image: NDArray[np.float32], header: ModelHeader) -> NDArray[np.float32]:
    """Normalise an image (1, C, Y, X) as the description says."""
    if header.foreign["moments"]:
        mean, deviation = (f(image, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
        return np.asarray((image - mean) / (deviation + 1e-6), np.float32)
    normalisation = header.normalisation
    percentiles = normalisation["low"], normalisation["high"]
    low, high = np.percentile(image, percentiles, axis=(2, 3), keepdims=True)
    clip = normalisation["clip"]
    scaled = ((image - low) / (high - low + 1e-6)).clip(-clip, 1 + clip)
    return np.asarray(scaled, np.float32)


def _own_network(state: Mapping[str, Tensor], described: JsonMapping) -> FramedUNet | None:
    """Return the U-Net of this program that has these weights; None if there is none."""
    first, head = state.get("down.0.0.weight"), state.get("head.weight")
    depth = sum(re.fullmatch(r"up\.\d+\.weight", name) is not None for name in state)
    if first is None or head is None or first.ndim != 4 or not 1 <= depth <= _DEEPEST:
        return None
    names = described["outputs"][0]["axes"][1]["channel_names"]
    distance = names[-1] == "distance"
    try:
        config = UNetConfig(
            depth=depth,
            width=first.shape[0],
            in_channels=first.shape[1],
            n_classes=head.shape[0] - distance,
            distance=distance,
        )
        with torch.device("meta"):
            network = FramedUNet(**vars(config))
        network.load_state_dict(dict(state), assign=True)
    except (ValueError, RuntimeError):
        return None
    return network.eval()


def _gives(network: FramedUNet, image: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Return whether a network gives these scores, framed as `FramedUNet` does."""
    edge = halo_px(network.config.depth) + 4
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    try:
        with torch.inference_mode():
            found = network(torch.from_numpy(image)).numpy()
    except (ValueError, RuntimeError):
        return False
    same = found.shape == expected.shape
    return same and np.allclose(found[inner], expected[inner], 0, CLOSE)
