"""The command line: `napari-unet`."""

from napari_unet.cli.program import main

__all__ = ["main"]
