"""Read tif files of ImageJ, OME and scanners: the image, its axes, its sizes and its colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from napari_unet.core.arrays import Pixels
from napari_unet.core.axes import axes_from_names
from napari_unet.core.checks import Unfit, name_array
from napari_unet.core.json_types import JsonObject
from napari_unet.io.image_source import ImageSource, choose_image, in_s, in_um

# Names that scanners give to pictures beside the image itself.
_SIDE = ("thumbnail", "label", "macro", "overview")
# Largest size of a pixel, in micrometres, that is believed in a plain tif. A larger one comes from
# the resolution of a printer or a screen, such as 72 or 300 dots per inch.
_LARGEST_UM = 5.0
# The size of a pixel in micrometres, as SVS files write it.
_MPP = re.compile(r"\bMPP\s*=\s*([\d.]+)")


@dataclass(frozen=True)
class _Facts:
    """What the metadata of a tif say: sizes and names, as in `ImageSource`."""

    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    interval_s: float | None = None
    channel_names: tuple[str, ...] = ()


def read_tif(
    path: Path, axes: str | None = None, series: int | None = None, as_labels: bool = False
) -> ImageSource:
    """Read the image in a tif; if there are several, the largest one.

    Parameters
    ----------
    path
        The file.
    axes
        One letter of TZCYX for each axis; by default the axes that the file names.
    series
        Which image of the file, from 0.
    as_labels
        Whether to keep the numbers of the pixels as they are: no palette, no inversion.

    Raises
    ------
    ValueError
        If there is no such image, or its axes are unclear.
    Exception
        An exception of tifffile, if the file is damaged.
    """
    with tifffile.TiffFile(path) as file:
        number, notes = _choose(file.series, series)
        chosen = file.series[number]
        page = chosen.keyframe
        if file.is_ome:
            lost = sum(page is None for page in chosen.pages)
            if lost:
                raise Unfit(
                    f"{lost} of its {len(chosen.pages)} planes are in other files, which are "
                    "missing; put all files of the set into one folder"
                )
        data = np.asarray(chosen.asarray())
        said = chosen.axes
        facts = _facts(file, number)
        if not as_labels:
            data, said, more = _as_shown(data, said, page)
            notes += more
        colours = _colours(page, said, data.shape)
        samples = data.shape[said.index("S")] if "S" in said else 0
        if samples == 2 and page.extrasamples and not as_labels:
            data, said = data.take(0, said.index("S")), said.replace("S", "")  # grey with alpha
    # For labels only the shape matters.
    data, named, more = (data, said, ()) if as_labels else _name(data, said, axes)
    # If the user gave no axes, an axis of length 1 before that of the colours may be gone.
    place = -1 if colours is None else colours - (len(said) - len(named))
    is_colour = place >= 0 and named[place] in "CS"
    if is_colour:
        # The colours become the last axis, also if the file holds one plane for each colour.
        data = np.moveaxis(data, place, -1)
        named = named[:place] + named[place + 1 :] + "C"
    return ImageSource(data, named, is_colour, **vars(facts), notes=notes + more)


def axes_of_tif(path: Path, shape: tuple[int, ...]) -> str | None:
    """Return the axes of the first image of this shape; None if the file does not name them all."""
    with tifffile.TiffFile(path) as file:
        for series in file.series:
            if series.shape == shape and not set(series.axes) - set("TZCYX"):
                return str(series.axes)
    return None


def names_in_tif(path: Path, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the channels of the first image of this shape; () if there are none."""
    with tifffile.TiffFile(path) as file:
        for number, series in enumerate(file.series):
            if series.shape == shape:
                return _facts(file, number).channel_names
    return ()


def _choose(
    series: Sequence[tifffile.TiffPageSeries], asked: int | None
) -> tuple[int, tuple[str, ...]]:
    """Return the number of the image to take, and notes for the user about the others."""
    found = [
        n
        for n, one in enumerate(series)
        if not (one.keyframe.is_reduced or str(one.name).lower().startswith(_SIDE))
    ]
    sizes = {n: _plane_px(series[n]) for n in found or range(len(series))}
    return choose_image([str(one.name or "") for one in series], sizes, asked)


def _plane_px(series: tifffile.TiffPageSeries) -> int:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes.get("Y", 1) * sizes.get("X", 1))


def _as_shown(
    data: Pixels, axes: str, page: tifffile.TiffPage
) -> tuple[Pixels, str, tuple[str, ...]]:
    """Return pixels that are larger where the image is brighter, their axes, and notes."""
    kind = tifffile.PHOTOMETRIC
    if page.photometric == kind.MINISWHITE:
        return _inverted(data, page.bitspersample), axes, ("0 is white in it: inverted",)
    if page.photometric == kind.PALETTE and page.colormap is not None:
        colours = np.asarray(page.colormap).T.astype(np.int64)  # (N, 3), 16 bits each
        used = colours[np.unique(data)]
        # The colours of an ImageJ look-up table grow with the number. In other palettes the numbers
        # are only names of colours, so the palette has to be applied.
        if (np.diff(used, axis=0) < 0).any():
            shown = (colours >> 8).astype(np.uint8)[data]
            return shown, f"{axes}S", ("its palette was applied",)
    return data, axes, ()


def _inverted(data: Pixels, bits: int) -> Pixels:
    if data.dtype == bool:
        return ~data
    if data.dtype.kind == "u":
        return np.asarray(data.dtype.type(2**bits - 1) - data)
    return np.asarray(-data) if data.dtype.kind == "f" else np.asarray(-1 - data)


def _colours(page: tifffile.TiffPage, axes: str, shape: Sequence[int]) -> int | None:
    """Return the number of the axis of the colours; None if the file does not mark one."""
    kind = tifffile.PHOTOMETRIC
    if page.photometric not in (kind.RGB, kind.YCBCR, kind.CIELAB, kind.PALETTE):
        return None
    # Some metadata call the samples of a pixel channels (C).
    place = axes.find("S") if "S" in axes else axes.find("C")
    samples = page.samplesperpixel if page.samplesperpixel > 1 else 3
    is_theirs = place >= 0 and shape[place] == samples and samples in (3, 4)
    return place if is_theirs and (axes[place] == "S" or page.samplesperpixel > 1) else None


def _name(data: Pixels, said: str, axes: str | None) -> tuple[Pixels, str, tuple[str, ...]]:
    """Return the pixels, their axes as letters of TZCYX, and what was assumed."""
    if axes is not None:
        data, named, _ = name_array(data, axes)
        return data, named, ()
    if "S" in said:
        if "C" in said and data.shape[said.index("C")] == 1:
            data, said = data.squeeze(said.index("C")), said.replace("C", "")
        said = said.replace("S", "C")
    # Axes that tifffile cannot name (Q, I, ...) are left out if their length is 1.
    spare = tuple(n for n, a in enumerate(said) if a not in "TZCYX" and data.shape[n] == 1)
    if spare:
        data, said = data.squeeze(spare), "".join(a for n, a in enumerate(said) if n not in spare)
    if not set(said) - set("TZCYX") and len(set(said)) == len(said):
        return data, said, ()
    if "C" in said:
        named = axes_from_names(list(said), data.shape)
        return data, named, ()
    data, named, _ = name_array(data, rgb=False)
    order = "a z-stack" if named == "ZYX" else named
    advice = "--axes TYX for a movie, --axes CYX for channels" if named == "ZYX" else "--axes"
    return data, named, (f"the file does not name its axes: taken for {order} ({advice})",)


def _facts(file: tifffile.TiffFile, series: int) -> _Facts:
    if file.ome_metadata:
        return _of_ome(file.ome_metadata, series)
    described: JsonObject = file.imagej_metadata or (file.shaped_metadata or ({},))[0]
    tags, unit = file.pages.first.tags, described.get("unit")
    size = _resolution(tags, lambda length: in_um(length, unit))
    if size is None and unit is None:
        size = _of_plain(file, tags)
    step, interval = described.get("spacing"), described.get("finterval")
    if interval is not None and not described.get("tunit"):
        interval_s = in_s(interval, "s")
    else:
        interval_s = in_s(interval, described.get("tunit"))
    return _Facts(size, in_um(step, unit), interval_s, _names(described))


def _names(described: JsonObject) -> tuple[str, ...]:
    """Return the names of the channels in ImageJ: the labels of the first slices, if all differ."""
    labels = described.get("Labels") or ()
    count = described.get("channels", 1)
    names = tuple(str(label) for label in labels[:count])
    return names if len(set(names)) == count > 1 else ()


def _resolution(
    tags: tifffile.TiffTags, in_um: Callable[[float], float | None]
) -> tuple[float, float] | None:
    """Return the size of a pixel (y, x) in micrometres, from the tags of the resolution."""
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    found = []
    for tag in ("YResolution", "XResolution"):
        count, per = tags[tag].value
        size = in_um(per / count) if count else None
        if size is None:
            return None
        found.append(size)
    return found[0], found[1]


def _of_plain(file: tifffile.TiffFile, tags: tifffile.TiffTags) -> tuple[float, float] | None:
    """Return the size of a pixel (y, x) in micrometres, for a tif of a scanner or a plain tif."""
    told = _MPP.search(str(file.pages.first.description))
    if file.is_svs and told:
        size = in_um(told[1], "um")
        return None if size is None else (size, size)
    unit = {2: "inch", 3: "cm"}.get(
        int(tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1)
    )
    size_um = _resolution(tags, lambda length: in_um(length, unit))
    return size_um if size_um and max(size_um) <= _LARGEST_UM else None


def _of_ome(xml: str, series: int) -> _Facts:
    images = tifffile.xml2dict(xml)["OME"]["Image"]
    images = images if isinstance(images, list) else [images]
    pixels = images[min(series, len(images) - 1)]["Pixels"]
    y, x, z = (
        in_um(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "um"))
        for a in "YXZ"
    )
    interval = in_s(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = tuple(str(channel.get("Name", "")) for channel in channels)
    return _Facts(
        None if y is None or x is None else (y, x), z, interval, names if all(names) else ()
    )
