"""Pictures of the docs: few colours and few bytes, so that the files are small."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw

from napari_unet.engine import trainer


def save_small(picture: Image.Image, path: Path, limit: int = 200_000) -> None:
    """Save a picture as PNG, with as many colours as fit into so many bytes."""
    for colours in (192, 128, 96, 64, 48, 32, 24, 16):
        small = picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        if path.stat().st_size < limit:
            return


def time_each_step(patch: pytest.MonkeyPatch, step_s: float = 0.45) -> None:
    """Let each training step take so long by the clock of the trainer, however busy the machine.

    So a fine-tune takes as many steps as on 2 cores that do nothing else.
    """
    now, learn = [0.0], trainer.Trainer._learn

    def timed(of: trainer.Trainer) -> object:
        now[0] += step_s
        return learn(of)

    patch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    patch.setattr(trainer.Trainer, "_learn", timed)


def with_pointer(picture: Image.Image, at: tuple[float, float]) -> Image.Image:
    """A copy with a mouse pointer at a point (x, y), in pixels, and a ring around it."""
    shown, (x, y) = picture.copy(), at
    draw = ImageDraw.Draw(shown)
    draw.ellipse((x - 20, y - 20, x + 20, y + 20), outline=(255, 220, 60), width=4)
    arrow = ((0, 0), (0, 22), (5, 17), (9, 26), (13, 24), (9, 16), (16, 16))
    draw.polygon([(x + dx, y + dy) for dx, dy in arrow], fill=(255, 255, 255), outline=(0, 0, 0))
    return shown


def save_animation(frames: list[tuple[Image.Image, int]], path: Path, width: int = 1000) -> None:
    """Save pictures, each with the ms for which it is shown, as a WebP that repeats."""
    pictures = [
        frame.resize((width, round(frame.height * width / frame.width)), Image.Resampling.LANCZOS)
        for frame, _ in frames
    ]
    times = [ms for _, ms in frames]
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        quality=70,
        method=6,
    )
