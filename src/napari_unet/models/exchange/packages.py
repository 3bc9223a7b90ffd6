"""Packages that only the exchange of models needs, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_unet.models.header import ModelFileError


def needed(package: str, what: str) -> Any:
    """Return an optional package.

    Parameters
    ----------
    package
        Its name.
    what
        What needs it, in words, to begin a sentence.

    Raises
    ------
    ModelFileError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ModelFileError(
            f"{what} needs the package {package}; pip install 'napari-unet[bioimageio]'"
        ) from error
