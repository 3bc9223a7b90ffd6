"""Pictures of the docs: few colours, so that the files are small."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def save_small(picture: Image.Image, path: Path, limit: int = 200_000) -> None:
    """Save a picture as PNG, with as many colours as fit into so many bytes."""
    for colours in (192, 128, 96, 64, 48, 32, 24, 16):
        small = picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        if path.stat().st_size < limit:
            return
