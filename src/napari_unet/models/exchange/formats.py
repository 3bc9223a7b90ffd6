"""In which formats a model is written for other programs, by the ending of the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from napari_unet.io.atomic import replacing
from napari_unet.models.device import check_torch
from napari_unet.models.exchange.archive_files import YAML
from napari_unet.models.header import ModelFileError, read_header
from napari_unet.models.header_rules import SUFFIX

# The name of each format, and the ending of its files. The first is this program's own.
FORMATS = {"model": SUFFIX, "onnx": ".onnx", "bioimageio": ".zip"}
# What another ONNX file does not begin with.
_PRODUCER, _HEAD = b"napari-unet", 64


def format_of(path: Path, asked: str | None = None) -> str:
    """Return the name of the format in which a file is to be written.

    Parameters
    ----------
    path
        The file. Other endings than those of `FORMATS` mean a model file.
    asked
        The format that was asked for; None if the ending says it.

    Raises
    ------
    ModelFileError
        If the ending is that of another format.
    """
    told = next((name for name, suffix in FORMATS.items() if path.suffix.lower() == suffix), None)
    if asked and told and asked != told:
        raise ModelFileError(
            f"{path.name} ends like a file of the format {told}, and {asked} was asked for; "
            f"let it end in {FORMATS[asked]}"
        )
    return asked or told or "model"


def export_model(model_path: Path, path: Path, form: str) -> None:
    """Write a model file in the format `onnx` or `bioimageio`; see there.

    Raises
    ------
    ModelFileError
        If a package is missing, or the model is a foreign one.
    """
    check_torch()
    from napari_unet.models.checkpoint import load_model
    from napari_unet.models.exchange.archive_writer import write_archive
    from napari_unet.models.exchange.onnx_graph import onnx_bytes

    network, header = load_model(model_path)
    if form == "bioimageio":
        write_archive(path, model_path, network, header)
        return
    content = onnx_bytes(network, header)
    with replacing(path) as part:
        part.write_bytes(content)


def is_replaceable(path: Path) -> bool:
    """Return whether an existing file is a model that this program wrote, in any format."""
    try:
        if path.suffix.lower() == FORMATS["onnx"]:
            with path.open("rb") as file:
                return _PRODUCER in file.read(_HEAD)
        if path.suffix.lower() == FORMATS["bioimageio"]:
            with zipfile.ZipFile(path) as archive:
                return YAML[0] in archive.namelist()
        read_header(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return True
