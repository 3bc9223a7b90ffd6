"""Images and labels as files: tif (with axes and pixel size), and what imageio reads."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.core.axes import ORDER, label_axes, label_shape
from napari_unet.engine.safe_files import replacing
from napari_unet.service.corrections import Annotated, annotate, painted_planes
from napari_unet.service.inputs import name_axes, whole_labels
from napari_unet.service.outputs import MARK
from napari_unet.service.zarr_files import is_zarr, open_zarr

_TIFF = {".tif", ".tiff"}
# The types of pixels that ImageJ knows.
_IMAGEJ = (np.uint8, np.uint16, np.float32)
# Between the name of an image and the ending of its labels' file.
LABELS = "_labels"
SUFFIXES = _TIFF | {".png", ".jpg", ".jpeg", ".bmp", ".zarr"}


@dataclass(frozen=True)
class ImageFile:
    """An image that was read.

    Attributes
    ----------
    data
        The pixels, any dtype; of a zarr store, an array that reads them when it is indexed.
    axes
        One letter of TZCYX for each axis.
    pixel_size_um
        Along Y and X, in micrometres; None if the file does not say.
    z_step_um
        From plane to plane along Z; None if the file does not say.
    """

    data: Any
    axes: str
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None

    @property
    def label_axes(self) -> str:
        """Axes of its labels."""
        return label_axes(self.axes)

    @property
    def anisotropy(self) -> float | None:
        """Distance of the planes over the size of a pixel; None if the file does not say."""
        if self.pixel_size_um is None or self.z_step_um is None:
            return None
        return self.z_step_um / math.sqrt(math.prod(self.pixel_size_um))

    @property
    def scale(self) -> tuple[tuple[float, ...], str]:
        """Size of a pixel along each of these, and the unit: um, or px where not all is known."""
        axes = self.label_axes
        if self.pixel_size_um is None or ("Z" in axes and self.z_step_um is None):
            return (1.0,) * len(axes), "px"
        y, x = self.pixel_size_um
        sizes = {"T": 1.0, "Z": self.z_step_um or 1.0, "Y": y, "X": x}
        return tuple(sizes[axis] for axis in axes), "um"


def read_image(path: Path, axes: str | None = None) -> ImageFile:
    """Read an image file.

    Parameters
    ----------
    path
        tif, png, jpg, bmp, or a zarr store, of which no pixel is read yet.
    axes
        Names of its axes; by default what the file says, or else guessed from the shape.

    Raises
    ------
    ValueError
        If it cannot be read, or its axes are unclear.
    OSError
        If the file system refuses it.
    """
    if is_zarr(path) and path.is_dir():
        store = open_zarr(path, axes)
        return ImageFile(store.data, store.axes, store.pixel_size_um)
    _check_readable(path)
    try:
        if path.suffix.lower() in _TIFF:
            data, named, pixel_size, z_step = _read_tiff(path)
        else:
            data, named = _drop_alpha(iio.imread(path, plugin="pillow")), None
            pixel_size = z_step = None
    except Exception as error:
        # Each format's reader has exceptions of its own.
        raise ValueError(f"{path} cannot be read as an image ({error}); save it as tif") from error
    try:
        return ImageFile(data, name_axes(data.shape, axes or named), pixel_size, z_step)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_labels(
    path: Path,
    labels: NDArray[np.int32],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
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
    pixel_size_um
        Along Y and X.
    """
    if labels.max(initial=0) < 2**16 and _in_order(axes):
        labels = labels.astype(np.uint16)
    write_image(path, labels, axes, pixel_size_um)


def write_image(
    path: Path,
    data: NDArray[Any],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
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
    pixel_size_um
        Along Y and X.
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
        metadata["unit"] = "um"
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
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
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


def read_annotated(images: Path, labels: Path, *, sparse: bool = False) -> list[Annotated]:
    """Images of a folder with their labels in another, to learn from; see `list_pairs`.

    Parameters
    ----------
    images, labels
        The folders.
    sparse
        Whether planes without a label were not looked at.

    Raises
    ------
    ValueError
        As `list_pairs` and `read_pair`.
    """
    pairs = [read_pair(*pair) for pair in list_pairs(images, labels)]
    return [
        annotate(
            image.data, image.axes, truth, painted_planes(image.axes, truth) if sparse else None
        )
        for image, truth in pairs
    ]


def read_pair(image: Path, labels: Path) -> tuple[ImageFile, NDArray[np.int32]]:
    """An image and its labels (axes of the image without C).

    Raises
    ------
    ValueError
        If they differ in size, or the labels are no whole numbers.
    """
    picture = read_image(image)
    truth = read_image(labels).data
    shape = label_shape(picture.axes, picture.data.shape)
    if truth.shape != shape:
        raise ValueError(
            f"the labels {labels} are {truth.shape} and the image is {shape}; "
            "give one number for each pixel"
        )
    try:
        return picture, whole_labels(truth)
    except ValueError as error:
        raise ValueError(f"{labels}: {error}") from error


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


def _read_tiff(
    path: Path,
) -> tuple[NDArray[Any], str | None, tuple[float, float] | None, float | None]:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        data = np.asarray(series.asarray())
        # S is tifffile's name for the samples of a pixel, I and Q are its words for "unknown".
        axes = series.axes.replace("S", "C")
        known = len(set(axes)) == len(axes) and not set(axes) - set("TZCYX")
        return data, axes if known else None, _pixel_size(file), _z_step(file)


def _drop_alpha(data: NDArray[Any]) -> NDArray[Any]:
    """Grey with an alpha channel (Y, X, 2) as grey (Y, X)."""
    return data[..., 0] if data.ndim == 3 and data.shape[-1] == 2 else data


_MICRON = ("um", "micron", "microns", "\\u00B5m", "\u00b5m", "\u03bcm")


def _pixel_size(file: tifffile.TiffFile) -> tuple[float, float] | None:
    if file.ome_metadata:
        return _ome_pixel_size(file.ome_metadata)
    described = file.imagej_metadata or (file.shaped_metadata or ({},))[0]
    tags = file.pages.first.tags
    if described.get("unit") not in _MICRON:
        return None
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_count, x_per), (y_count, y_per) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_count and y_count):
        return None
    return y_per / y_count, x_per / x_count


def _z_step(file: tifffile.TiffFile) -> float | None:
    if file.ome_metadata:
        sizes = _ome_sizes(file.ome_metadata, "Z")
        return sizes[0] if sizes else None
    described = file.imagej_metadata or {}
    step = described.get("spacing", 0)
    return float(step) if described.get("unit") in _MICRON and step > 0 else None


def _ome_pixel_size(xml: str) -> tuple[float, float] | None:
    sizes = _ome_sizes(xml, "YX")
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None


def _ome_sizes(xml: str, axes: str) -> list[float]:
    """Sizes along these axes in micrometres, without those that are not known."""
    images = tifffile.xml2dict(xml)["OME"]["Image"]
    pixels = (images[0] if isinstance(images, list) else images)["Pixels"]
    sizes = [
        float(pixels.get(f"PhysicalSize{axis}", 0))
        for axis in axes
        if pixels.get(f"PhysicalSize{axis}Unit", "um") in _MICRON
    ]
    return [size for size in sizes if size > 0]
