"""Labels from files of any format: images of labels, Cellpose, ROIs of ImageJ, GeoJSON.

Outlines hold a pixel whose centre lies in them. Where two overlap, the later one has the pixels.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from napari_unet.core.axes import label_shape, plane_shape, plane_view
from napari_unet.core.cells.polygons import Ring, fill
from napari_unet.core.checks import Unfit, name_array, name_axes, size_words
from napari_unet.core.json_types import JsonMapping
from napari_unet.io.exports import geojson, imagej
from napari_unet.io.image_source import ImageSource
from napari_unet.io.images import read_image
from napari_unet.io.plain_pickle import read_npy

# Endings of files that hold outlines, and of those that hold labels and are no images.
_OUTLINES = (".zip", ".roi", ".geojson")
SUFFIXES = (*_OUTLINES, ".npy")
# The largest file of an ROI that is read, in bytes: an outline of four million points.
_LARGEST_ROI = 1 << 26
# The largest id of a cell; that leaves enough numbers for cells without one.
_LARGEST_ID = 1 << 30
# ROIs with an area.
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)


@dataclass(frozen=True)
class _Shape:
    """An outline that was read.

    Attributes
    ----------
    name
        What it is called in messages.
    polygons
        Rings of each polygon.
    label
        The id that the file tells; None if it tells none.
    t, z
        Its place along T and Z, from 0; None if the file does not tell it.
    position
        Its place among all planes, from 0, if the file tells that alone.
    """

    name: str
    polygons: Sequence[Sequence[Ring]]
    label: int | None = None
    t: int | None = None
    z: int | None = None
    position: int | None = None


def is_label_file(path: Path) -> bool:
    """Whether a file has an ending of labels that are no image."""
    return path.suffix.lower() in SUFFIXES


def read_label_file(
    path: Path, shape: Sequence[int] | None = None, axes: str | None = None
) -> ImageSource:
    """Read labels from a file.

    Parameters
    ----------
    path
        An image of labels (tif, png, zarr, ...), a `_seg.npy` of Cellpose, ROIs of ImageJ (zip,
        roi), or GeoJSON.
    shape
        Shape of the labels; it must be given for outlines (ROIs and GeoJSON).
    axes
        One letter of TZYX for each axis; by default those in the file, or YX, ZYX, TZYX.

    Returns
    -------
    The labels, of the shape that was given.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not fit the shape.
    """
    try:
        return _read(path, shape if shape is None else tuple(shape), axes)
    except Unfit as error:
        raise ValueError(f"{path}: {error.for_files}") from error
    except ValueError as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise ValueError(f"{where}{error}") from error


def read_labels_of(path: Path, image: ImageSource) -> ImageSource:
    """Read the labels of an image from a file; they get its axes without C, and its sizes.

    Raises
    ------
    ValueError
        As `read_label_file`.
    """
    shape = label_shape(image.axes, image.data.shape)
    return replace(
        read_label_file(path, shape, image.label_axes),
        pixel_size_um=image.pixel_size_um,
        z_step_um=image.z_step_um,
        interval_s=image.interval_s,
    )


def _read(path: Path, shape: tuple[int, ...] | None, axes: str | None) -> ImageSource:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and not path.is_file():
        raise ValueError("there is no such file; give the path of labels")
    if suffix in _OUTLINES:
        if shape is None:
            raise ValueError(
                "it holds outlines, which do not tell the size of their image; give its shape "
                "(--image on the command line)"
            )
        named = _without_channels(name_axes(shape, axes, rgb=False))
        shapes = _read_geojson(path) if suffix == ".geojson" else _read_rois(path)
        return ImageSource(_painted(list(shapes), shape, named), named)
    is_npy = suffix == ".npy"
    source = ImageSource(_masks(path), "") if is_npy else read_image(path, as_labels=True)
    if shape is not None:
        named = _without_channels(name_axes(shape, axes, rgb=False))
        return ImageSource(_reshaped(source, shape), named)
    is_named = 0 < len(source.axes) == len(set(source.axes) & set("TZYX"))
    data, named, _ = name_array(source.data, axes or (source.axes if is_named else None), rgb=False)
    sizes = (source.pixel_size_um, source.z_step_um, source.interval_s)
    return ImageSource(data, _without_channels(named), False, *sizes)


def _without_channels(axes: str) -> str:
    if "C" in axes:
        raise ValueError(f"labels have no channels, and these have the axes {axes}")
    return axes


def _reshaped(source: ImageSource, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Return labels reshaped to `shape`, with one number for each pixel of the image."""
    numbers = np.asarray(source.data)
    if source.is_colour and (numbers[..., :1] == numbers[..., :3]).all():
        numbers = numbers[..., 0]  # grey, saved as a colour picture
    long = [tuple(n for n in of if n != 1) for of in (numbers.shape, shape)]
    if long[0] == long[1]:
        return numbers.reshape(shape)
    if source.is_colour:
        raise ValueError(
            "the labels are a colour picture; save them as whole numbers, one for each cell, in "
            "a tif or a png of 16 bits"
        )
    raise ValueError(
        f"the labels are {size_words(numbers.shape)} and the image is {size_words(shape)}; give "
        "one number for each pixel"
    )


def _masks(path: Path) -> NDArray[Any]:
    """Return the labels in a .npy file: an array, or the masks of Cellpose."""
    found = read_npy(path)
    masks = found.get("masks") if isinstance(found, dict) else found
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "biuf":
        raise ValueError("it holds no masks; give the _seg.npy that Cellpose saved")
    return masks


def _read_rois(path: Path) -> Iterator[_Shape]:
    try:
        if path.suffix.lower() == ".roi":
            yield _roi(path.stem, path.read_bytes())
            return
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = PurePosixPath(info.filename)
                # macOS puts a file whose name begins with a dot beside each file (._a.roi).
                if name.suffix.lower() != ".roi" or name.name.startswith("."):
                    continue
                if info.file_size > _LARGEST_ROI:
                    raise ValueError(f"{name.stem} is too large for an ROI")
                yield _roi(name.stem, archive.read(info))
    except OSError:
        raise
    except Exception as error:
        # zipfile, zlib and roifile have exceptions of their own.
        raise ValueError(
            f"it cannot be read as ROIs of ImageJ ({' '.join(str(error).split())}); save it again "
            "with the ROI Manager"
        ) from error


def _roi(name: str, content: bytes) -> _Shape:
    roi = ImagejRoi.frombytes(content)
    if roi.roitype not in _AREAS:
        raise ValueError(f"{name} is a {roi.roitype.name.lower()} and has no area; remove it")
    properties = dict(line.split(": ", 1) for line in roi.props.splitlines() if ": " in line)
    rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    return _Shape(
        name,
        [rings],
        _id(properties.get(imagej.LABEL)),
        *(at - 1 if at > 0 else None for at in (roi.t_position, roi.z_position, roi.position)),
    )


def _read_geojson(path: Path) -> Iterator[_Shape]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        features = content
        if isinstance(content, dict):
            features = [content] if content.get("type") == "Feature" else content["features"]
        for number, feature in enumerate(features, start=1):
            if feature["geometry"] is not None:
                yield _feature(f"the feature {number}", feature)
    except OSError:
        raise
    except Exception as error:
        # What is in the file may be anything.
        reason = " ".join(str(error).split()) or "it is no GeoJSON"
        if isinstance(error, AttributeError | KeyError | TypeError | RecursionError):
            reason = "it is no GeoJSON"
        raise ValueError(
            f"it cannot be read as GeoJSON ({reason}); export it again as a FeatureCollection"
        ) from error


def _feature(name: str, feature: JsonMapping) -> _Shape:
    geometry = feature["geometry"]
    kind = geometry["type"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"{name} is a {kind}; give polygons")
    parts = geometry["coordinates"] if kind == "MultiPolygon" else [geometry["coordinates"]]
    polygons = [[np.array(ring, np.float64)[:, :2] for ring in part] for part in parts]
    if not all(np.isfinite(ring).all() for part in polygons for ring in part):
        raise ValueError(f"{name} has points that are no numbers")
    plane = geometry.get("plane", {})
    measured = (feature.get("properties") or {}).get("measurements")
    label = measured.get(geojson.LABEL) if isinstance(measured, dict) else None
    return _Shape(
        name,
        polygons,
        _id(label),
        int(plane.get("t", 0)),
        int(plane.get("z", 0)),
    )


def _id(told: object) -> int | None:
    """Return the id of a cell that a file tells; None if it is no whole number above 0."""
    try:
        value = float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(value) if value.is_integer() and 0 < value <= _LARGEST_ID else None


def _painted(shapes: Sequence[_Shape], shape: tuple[int, ...], axes: str) -> NDArray[np.int32]:
    """Return labels with all outlines filled."""
    labels = np.zeros(shape, np.int32)
    unused = max((found.label or 0 for found in shapes), default=0) + 1
    taken: set[tuple[int, tuple[int, ...]]] = set()
    size = plane_shape(axes, shape)
    for found in shapes:
        index = _index(found, shape, axes)
        label = found.label
        # A copy of an outline in another program has the id of the first, and is another cell.
        if label is None or (label, index) in taken:
            label, unused = unused, unused + 1
        taken.add((label, index))
        plane = plane_view(labels, axes, index)
        is_inside = False
        for polygon in found.polygons:
            box, mask = fill(polygon, size)
            plane[box][mask] = label
            is_inside |= bool(mask.size)
        if not is_inside:
            raise ValueError(
                f"{found.name} lies outside of the image, which is {size_words(size)}; "
                "give the outlines of this image"
            )
    return labels


def _index(found: _Shape, shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Return the index of the plane that an outline lies on."""
    sizes = {axis: n for axis, n in zip(axes, shape, strict=True) if axis not in "YX"}
    places = {"T": found.t, "Z": found.z}
    if found.position is not None and found.t is None and found.z is None:
        # ImageJ counts the planes along Z first.
        n_z = sizes.get("Z", 1)
        places = {"T": found.position // n_z, "Z": found.position % n_z}
    for axis, at in places.items():
        n = sizes.get(axis, 1)
        if at is None and n > 1:
            raise ValueError(
                f"{found.name} does not tell its place along {axis}; give it the position "
                "of its plane"
            )
        if at is not None and not 0 <= at < n:
            raise ValueError(
                f"{found.name} lies on {axis} {at}, and the image has {n} there; give the "
                "outlines of this image"
            )
    return tuple(places[axis] or 0 for axis in sizes)
