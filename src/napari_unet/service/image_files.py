"""Images and labels as files: tif (with axes and sizes), of microscopes, and what imageio reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.core.axes import ORDER, label_shape
from napari_unet.engine.safe_files import replacing
from napari_unet.service.corrections import Annotated, annotate, painted_planes
from napari_unet.service.image_source import ImageSource
from napari_unet.service.inputs import (
    Unfit,
    check_numbered,
    name_array,
    size_words,
    split_pieces,
    whole_labels,
)
from napari_unet.service.microscope_files import SUFFIXES as MICROSCOPE_SUFFIXES
from napari_unet.service.microscope_files import is_microscope_file, read_microscope_file
from napari_unet.service.outputs import MARK
from napari_unet.service.tif_files import axes_of_tif, names_in_tif, read_tif
from napari_unet.service.zarr_files import is_zarr, open_zarr

_TIFF = {".tif", ".tiff", ".svs", ".ndpi", ".qptiff", ".lsm"}
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The types of pixels that ImageJ knows.
_IMAGEJ = (np.uint8, np.uint16, np.float32)
# Between the name of an image and the ending of its labels' file.
LABELS = "_labels"
# Reads an image file: `read_image` with some of its options.
Read = Callable[[Path], ImageSource]
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
        tif, png, jpg, bmp; or czi, nd2, lif or a zarr store, of which no pixel is read yet.
    axes
        Names of its axes; by default what the file says, or else guessed from the shape.
    series
        Which image of a file that holds several, from 0; by default the largest one.
    rgb
        Whether its channels are the colours of a photograph, whatever the file says.
    as_labels
        Whether pixels are wanted as the numbers that they are: no palette, no inversion.

    Raises
    ------
    ValueError
        If it cannot be read, or its axes are unclear.
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
    """Write labels as a tif that ImageJ opens, or as a plain one if it has none of its types.

    Parameters
    ----------
    path
        Where to; replaced as a whole.
    labels
        int32; written as uint16 where all ids fit, for ImageJ knows no 32-bit integers.
    axes
        Its axes, without C.
    pixel_size_um, z_step_um, interval_s
        Along Y and X, Z, and T, as in `ImageSource`.
    """
    if labels.max(initial=0) < 2**16 and _in_order(axes):
        labels = labels.astype(np.uint16)
    write_image(path, labels, axes, pixel_size_um, z_step_um, interval_s)


def write_image(
    path: Path,
    data: NDArray[Any],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
    z_step_um: float | None = None,
    interval_s: float | None = None,
    *,
    compress: bool = False,
) -> None:
    """Write pixels as a tif that ImageJ opens, or as a compressed one if it has none of its types.

    Parameters
    ----------
    path
        Where to; replaced as a whole.
    data
        The pixels, any dtype.
    axes
        One letter of TZCYX for each axis.
    pixel_size_um, z_step_um, interval_s
        Along Y and X, Z, and T, as in `ImageSource`.
    compress
        Whether to compress the one for ImageJ, too.
    """
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {
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
    """Files as they are, folders as the images in them, sorted; labels of one of these are none.

    Raises
    ------
    ValueError
        If a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not is_zarr(path):
            # Of names that begin with a dot, a Mac writes one beside each file (._a.tif).
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
    """Axes of an image of this shape, as the file that it is from names them; None if it does not.

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
        # Whatever is wrong with the file, the pixels are there.
        return None
    return found


def channels_in_file(path: Path, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the channels of an image of this shape, as its file has them; empty if it has none.

    No pixel is read.
    """
    try:
        if path.is_dir() and is_zarr(path):
            image = open_zarr(path)
            return image.channel_names if image.data.shape == shape else ()
        return names_in_tif(path, shape) if path.is_file() and _is_tif(path) else ()
    except Exception:
        # As above.
        return ()


def stem_of(path: Path) -> str:
    """Name of an image without its ending; of an image in a zarr store, with that of the store."""
    for store in path.parents:
        if is_zarr(store) and is_zarr(path):
            return "_".join([stem_of(store), *path.relative_to(store).parts])
    return path.stem


def list_pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Images of a folder with their labels in another: STEM, or STEM_labels as `segment` writes.

    Raises
    ------
    ValueError
        If an image has no labels.
    """
    truths = list_images([labels])
    by_stem = {path.stem.removesuffix(LABELS): path for path in truths}
    # The very name comes first.
    by_stem |= {path.stem: path for path in truths}
    found = list_images([images])
    missing = [path.name for path in found if path.stem not in by_stem]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(found)} images have no labels in {labels}, "
            f"for example {missing[0]}; give each its labels under the same name"
        )
    return [(path, by_stem[path.stem]) for path in found]


def read_annotated(
    images: Path,
    labels: Path,
    *,
    sparse: bool = False,
    read: Read = read_image,
    split: bool = False,
) -> list[Annotated]:
    """Images of a folder with their labels in another, to learn from; see `list_pairs`.

    Parameters
    ----------
    images, labels
        The folders.
    sparse
        Whether planes without a label were not looked at.
    read, split
        As for `read_pair`.

    Raises
    ------
    ValueError
        As `list_pairs` and `read_pair`.
    """
    pairs = [read_pair(*pair, read, split=split) for pair in list_pairs(images, labels)]
    return [
        annotate(
            image.data, image.axes, truth, painted_planes(image.axes, truth) if sparse else None
        )
        for image, truth in pairs
    ]


def read_pair(
    image: Path, labels: Path, read: Read = read_image, *, split: bool = False
) -> tuple[ImageSource, NDArray[np.int32]]:
    """An image and its labels (axes of the image without C).

    Parameters
    ----------
    image, labels
        The files.
    read
        Reads the image.
    split
        Whether each separate piece of the labels is a cell, whatever its number.

    Raises
    ------
    ValueError
        If they differ in size, or the labels are no whole numbers, or a mask of all cells.
    """
    picture = read(image)
    axes, shape = picture.label_axes, label_shape(picture.axes, picture.data.shape)
    try:
        truth = _numbers(read_image(labels, as_labels=True), shape)
        whole = whole_labels(truth)
        if split:
            return picture, split_pieces(whole, axes)
        check_numbered(whole, axes)
    except Unfit as error:
        raise ValueError(f"{labels}: {error.for_files}") from error
    except ValueError as error:
        where = "" if str(labels) in str(error) else f"{labels}: "
        raise ValueError(f"{where}{error}") from error
    return picture, whole


def _numbers(truth: ImageSource, shape: tuple[int, ...]) -> NDArray[Any]:
    """Labels with one number for each pixel of an image whose planes have this shape."""
    numbers = np.asarray(truth.data)
    if truth.is_colour and (numbers[..., :1] == numbers[..., :3]).all():
        numbers = numbers[..., 0]  # grey, saved as a colour picture
    long = [tuple(n for n in of if n != 1) for of in (numbers.shape, shape)]
    if long[0] == long[1]:
        return numbers.reshape(shape)
    if truth.is_colour:
        raise ValueError(
            "the labels are a colour picture; save them as whole numbers, one for each cell, in "
            "a tif or a png of 16 bits"
        )
    raise ValueError(
        f"the labels are {size_words(numbers.shape)} and the image is {size_words(shape)}; give "
        "one number for each pixel"
    )


def _check_readable(path: Path) -> None:
    """Raise what keeps a file from being read at all, before its format is looked at."""
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


def _is_labels_of(stem: str, stems: set[str]) -> bool:
    return stem.endswith(LABELS) and stem.removesuffix(LABELS) in stems


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
        # Each format's reader has exceptions of its own. Where the system says why, that is it.
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.strerror):
            raise
        raise ValueError(f"{path} cannot be read as an image ({_reason(path, error)}") from error


def _is_tif(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MARKS or path.suffix.lower() in _TIFF


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what helps."""
    text = " ".join(str(error).split())
    if "imagecodecs" in text:
        return "its compression needs imagecodecs); run: pip install imagecodecs"
    if _is_tif(path):
        return f"{text}); if it is damaged copy it anew, else write it anew where it is from"
    if "pillow" in text:
        text = "it is no picture of a known format"
    return f"{text}); save it as tif"


def _read_picture(path: Path, axes: str | None, series: int | None, as_labels: bool) -> ImageSource:
    """Read png, jpg, bmp, and what else has one picture, without sizes."""
    if series:
        raise Unfit(f"image {series} is asked for and there is one; leave --series out")
    # Of a mask with a palette the numbers are what was meant, not their colours.
    has_palette = as_labels and iio.immeta(path, plugin="pillow").get("mode") == "P"
    data = np.asarray(iio.imread(path, plugin="pillow", mode="P" if has_palette else None))
    if data.ndim == 3 and data.shape[-1] == 2:
        data = data[..., 0]  # grey with alpha
    is_colour = data.ndim == 3 and data.shape[-1] in (3, 4)
    data, named = name_array(data, axes, rgb=is_colour)[:2]
    return ImageSource(data, named, is_colour and named[-1] == "C")


def _as_rgb(image: ImageSource, path: Path) -> ImageSource:
    """The image with its channels as colours, last where it is in memory."""
    place = image.axes.find("C")
    count = image.data.shape[place] if place >= 0 else 1
    if count not in (3, 4):
        raise ValueError(f"{path}: --rgb is for 3 or 4 channels and it has {count}; leave it out")
    if isinstance(image.data, np.ndarray):
        axes = image.axes.replace("C", "") + "C"
        image = replace(image, data=np.moveaxis(image.data, place, -1), axes=axes)
    return replace(image, is_colour=True, channel_names=())
