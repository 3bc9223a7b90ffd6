"""Write a model in the bioimage.io format: a zip that other programs run and check."""

from __future__ import annotations

import hashlib
import inspect
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.network.unet import UNet
from napari_unet.io.atomic import replacing
from napari_unet.models.exchange import description as say
from napari_unet.models.exchange.archive_files import YAML
from napari_unet.models.exchange.onnx_graph import onnx_bytes
from napari_unet.models.exchange.sample import cover, sample_image
from napari_unet.models.header import ModelHeader
from napari_unet.models.header_rules import SUFFIX

# Zip files hold no earlier day. One fixed day makes files of the same model the same.
_DAY = (1980, 1, 1, 0, 0, 0)


def write_archive(path: Path, model_path: Path, network: UNet, header: ModelHeader) -> None:
    """Write an archive: description, weights as ONNX and PyTorch, test data, cover, model file.

    No image of a user goes into the file (`sample`).

    Parameters
    ----------
    path
        The zip to write; it appears whole or not at all.
    model_path
        The model file, which is copied into the archive.
    network, header
        Its content.

    Raises
    ------
    ModelFileError
        If the package onnx is not installed.
    """
    import torch
    import yaml

    from napari_unet.core.network.framed import FramedUNet
    from napari_unet.models.checkpoint import architecture
    from napari_unet.models.loaded import LoadedModel

    header = replace(header, architecture=architecture(network))
    framed = FramedUNet(**header.architecture)
    framed.load_state_dict(network.state_dict())
    image = sample_image(network, header)
    with torch.inference_mode():
        seen = LoadedModel(network, header).prepare(image)
        scores = framed.eval()(torch.from_numpy(seen)[None]).numpy()
    model_file = f"{header.name}{SUFFIX}"
    files = {
        say.ONNX: onnx_bytes(network, header, framed=True),
        say.STATE: _state(network),
        say.SOURCE: _source().encode(),
        say.TEST_INPUT: _npy(image[None]),
        say.TEST_OUTPUT: _npy(scores),
        model_file: model_path.read_bytes(),
        say.README: say.readme(network, header, model_file).encode(),
        say.COVER: cover(image, scores[0], network),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    content = say.describe(network, header, model_file, hashes, str(torch.__version__))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    files = {YAML[0]: text.encode(), **files}
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DAY), data, zipfile.ZIP_DEFLATED)


def _source() -> str:
    """Return Python source that stands alone: the U-Net, and its framed form."""
    from napari_unet.core.network import framed, unet

    less = f"LESS_PX = {framed.LESS_PX}"
    return f"{inspect.getsource(unet)}\n\n{less}\n\n\n{inspect.getsource(framed.FramedUNet)}"


def _state(network: UNet) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    return stream.getvalue()


def _npy(array: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
