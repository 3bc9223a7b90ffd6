"""Read and write files of images and labels: tif, microscope formats, zarr, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.core.axes import ORDER
from napari_unet.core.checks import (
    Unfit,
    name_array,
)
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import replacing
from napari_unet.io.image_source import ImageSource
from napari_unet.io.microscope import SUFFIXES as MICROSCOPE_SUFFIXES
from napari_unet.io.microscope import is_microscope_file, read_microscope_file
from napari_unet.io.ome_zarr import is_zarr, open_zarr
from napari_unet.io.outputs import MARK
from napari_unet.io.tif import axes_of_tif, names_in_tif, read_tif

# Endings of files that are read as tif, and the first four bytes of a tif.
_TIFF = {".tif", ".tiff", ".svs", ".ndpi", ".qptiff", ".lsm"}
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The types of pixels that ImageJ can open.
_IMAGEJ = (np.uint8, np.uint16, np.float32)
# The name of a file of labels is that of its image, then this, then the ending.
LABELS = "_labels"
# A function that reads an image file: `read_image` with some of its options.
Read = Callable[[Path], ImageSource]
# Endings of all files that can be read.
SUFFIXES = _TIFF | MICROSCOPE_SUFFIXES | {".png", ".jpg", ".jpeg", ".bmp", ".zarr"}


def read_image(
    path: Path,
    axes: str | None = None,
    *,
    series: int | None = None,
    rgb: bool = False,
    as_labels: bool = False,
) -> ImageSource:
    """Read an image file.

    Parameters
    ----------
    path
        A tif, png, jpg or bmp; or a czi, nd2, lif or zarr store, whose pixels are read later, when
        they are indexed.
    axes
        Names of its axes; by default those in the file, or else guessed from the shape.
    series
        Which image of a file that holds several, from 0; by default the largest one.
    rgb
        Whether the channels are the colours of a photograph, whatever the file says.
    as_labels
        Whether to keep the numbers of the pixels as they are: no palette, no inversion.

    Raises
    ------
    ValueError
        If the file cannot be read, or its axes are unclear.
    OSError
        If the file system refuses it.
    """
    if path.is_dir() and is_zarr(path):
        image = open_zarr(path, axes, series).source
    else:
        _check_readable(path)
        image = _read_file(path, axes, series, as_labels)
    return _as_rgb(image, path) if rgb else image


def write_labels(
    path: Path,
    labels: NDArray[np.int32],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
    z_step_um: float | None = None,
    interval_s: float | None = None,
) -> None:
    """Write labels as a tif that ImageJ opens, or as a plain tif if the ids are too large for it.

    Parameters
    ----------
    path
        The file; an older one is replaced as a whole.
    labels
        int32. They are written as uint16 if all ids fit, because ImageJ has no 32-bit integers.
    axes
        Axes of the labels, without C.
    pixel_size_um, z_step_um, interval_s
        Sizes along Y and X, along Z, and along T, as in `ImageSource`.
    """
    if labels.max(initial=0) < 2**16 and _in_order(axes):
        labels = labels.astype(np.uint16)
    write_image(path, labels, axes, pixel_size_um, z_step_um, interval_s)


def write_image(
    path: Path,
    data: Pixels,
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
    z_step_um: float | None = None,
    interval_s: float | None = None,
    *,
    compress: bool = False,
) -> None:
    """Write pixels as a tif that ImageJ opens, or as a compressed tif if ImageJ lacks their type.

    Parameters
    ----------
    path
        The file; an older one is replaced as a whole.
    data
        The pixels, of any dtype.
    axes
        One letter of TZCYX for each axis.
    pixel_size_um, z_step_um, interval_s
        Sizes along Y and X, along Z, and along T, as in `ImageSource`.
    compress
        Whether to compress a tif for ImageJ, too.
    """
    metadata: dict[str, object] = {"axes": axes}
    options: JsonObject = {
        "metadata": metadata,
        "photometric": "minisblack",
        "software": MARK,
    }
    if pixel_size_um is not None:
        y, x = pixel_size_um
        options["resolution"] = (1 / x, 1 / y)
    if pixel_size_um is not None or z_step_um is not None:
        metadata["unit"] = "um"
    if z_step_um is not None and "Z" in axes:
        metadata["spacing"] = z_step_um
    if interval_s is not None and "T" in axes:
        metadata |= {"finterval": interval_s, "tunit": "s"}
    if data.dtype in _IMAGEJ and _in_order(axes):
        options["imagej"] = True
    else:
        compress = True
    if compress:
        options["compression"] = "zlib"
    with replacing(path) as part:
        tifffile.imwrite(part, data, **options)


def list_images(paths: Iterable[Path]) -> list[Path]:
    """Return files as they are, and for each folder the images in it, sorted, without their labels.

    Raises
    ------
    ValueError
        If a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not is_zarr(path):
            # macOS writes a file whose name begins with a dot beside each file (._a.tif).
            inside = sorted(
                p
                for p in path.iterdir()
                if not p.name.startswith(".") and (p.suffix.lower() in SUFFIXES or is_zarr(p))
            )
            stems = {p.stem for p in inside}
            inside = [p for p in inside if not _is_labels_of(p.stem, stems)]
            if not inside:
                raise ValueError(
                    f"the folder {path} holds no image; it needs {', '.join(sorted(SUFFIXES))}"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"there is no file or folder {path}; give the path of an image")
    return found


def axes_in_file(path: Path, shape: tuple[int, ...]) -> str | None:
    """Return the axes that a file names for an image of this shape; None if it names none.

    No pixel is read.
    """
    try:
        if path.is_dir() and is_zarr(path):
            image = open_zarr(path)
            found = image.axes if image.is_named and image.data.shape == shape else None
        elif is_microscope_file(path):
            said = read_microscope_file(path)
            found = said.axes if said.data.shape == shape else None
        else:
            found = axes_of_tif(path, shape) if path.is_file() and _is_tif(path) else None
    except Exception:
        # Whatever is wrong with the file, the caller has the pixels already.
        return None
    return found


def channels_in_file(path: Path, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names that a file gives to the channels of an image of this shape, if it does.

    No pixel is read.
    """
    try:
        if path.is_dir() and is_zarr(path):
            image = open_zarr(path)
            return image.channel_names if image.data.shape == shape else ()
        return names_in_tif(path, shape) if path.is_file() and _is_tif(path) else ()
    except Exception:
        # Whatever is wrong with the file, the caller has the pixels already.
        return ()


def stem_of(path: Path) -> str:
    """Return the name of an image without its ending; in a zarr store, after that of the store."""
    for store in path.parents:
        if is_zarr(store) and is_zarr(path):
            return "_".join([stem_of(store), *path.relative_to(store).parts])
    return path.stem


def _check_readable(path: Path) -> None:
    """Raise an error if there is no such file, or it is empty or not readable."""
    if path.is_dir():
        raise ValueError(f"there is no file {path}, it is a folder; give the path of an image")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError(
                    f"{path} cannot be read as an image: it is empty; take another copy"
                )
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; give the path of an image") from None


def _in_order(axes: str) -> bool:
    return axes == "".join(axis for axis in ORDER if axis in axes)


def _read_file(path: Path, axes: str | None, series: int | None, as_labels: bool) -> ImageSource:
    read = read_tif if _is_tif(path) else _read_picture
    try:
        if is_microscope_file(path):
            return read_microscope_file(path, axes, series)
        return read(path, axes, series, as_labels)
    except Unfit as error:
        raise ValueError(f"{path}: {error.for_files}") from error
    except Exception as error:
        # The reader of each format has its own exceptions. An error of the system is passed on.
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.strerror):
            raise
        raise ValueError(f"{path} cannot be read as an image ({_reason(path, error)}") from error


def _is_tif(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MARKS or path.suffix.lower() in _TIFF


def _reason(path: Path, error: Exception) -> str:
    """Return why a file cannot be read, and what the user can do."""
    text = " ".join(str(error).split())
    if "imagecodecs" in text:
        return "its compression needs imagecodecs); run: pip install imagecodecs"
    if _is_tif(path):
        return f"{text}); if it is damaged copy it anew, else write it anew where it is from"
    if "pillow" in text:
        text = "it is no picture of a known format"
    return f"{text}); save it as tif"


def _read_picture(path: Path, axes: str | None, series: int | None, as_labels: bool) -> ImageSource:
    """Read a file that holds one picture, such as png, jpg or bmp; it has no sizes."""
    if series:
        raise Unfit(f"image {series} is asked for and there is one; leave --series out")
    # In a mask with a palette, the numbers are the labels, not their colours.
    has_palette = as_labels and iio.immeta(path, plugin="pillow").get("mode") == "P"
    data = np.asarray(iio.imread(path, plugin="pillow", mode="P" if has_palette else None))
    if data.ndim == 3 and data.shape[-1] == 2:
        data = data[..., 0]  # grey with alpha
    is_colour = data.ndim == 3 and data.shape[-1] in (3, 4)
    data, named = name_array(data, axes, rgb=is_colour)[:2]
    return ImageSource(data, named, is_colour and named[-1] == "C")


def _as_rgb(image: ImageSource, path: Path) -> ImageSource:
    """Return the image with its channels as colours; in memory they become the last axis."""
    place = image.axes.find("C")
    count = image.data.shape[place] if place >= 0 else 1
    if count not in (3, 4):
        raise ValueError(f"{path}: --rgb is for 3 or 4 channels and it has {count}; leave it out")
    if isinstance(image.data, np.ndarray):
        axes = image.axes.replace("C", "") + "C"
        image = replace(image, data=np.moveaxis(image.data, place, -1), axes=axes)
    return replace(image, is_colour=True, channel_names=())


def _is_labels_of(stem: str, stems: set[str]) -> bool:
    return stem.endswith(LABELS) and stem.removesuffix(LABELS) in stems
