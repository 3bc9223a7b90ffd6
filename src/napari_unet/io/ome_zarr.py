"""Read images and make labels in zarr stores: OME-Zarr up to version 0.5, and plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from napari_unet.core.arrays import Index, LazyArray, Pixels
from napari_unet.core.axes import ORDER, Unreadable, axes_from_names
from napari_unet.core.checks import Undecided, name_array
from napari_unet.core.json_types import JsonObject
from napari_unet.io.image_source import ImageSource, in_s, in_um
from napari_unet.io.outputs import MARK

if TYPE_CHECKING:
    import zarr

SUFFIX = ".zarr"
# Width and height of a chunk, in pixels. The levels of a pyramid are halved down to this size.
CHUNK_PX = 1024
# Side of a chunk where several lie in a file.
_SHARDED_PX = 256
# The type that OME-Zarr gives to an axis; all others are "space".
_TYPES = {"T": "time", "C": "channel"}
# What a store says about an image, as it was read from JSON.
Metadata = JsonObject
# Files that make a folder a zarr store, whatever its name.
_MARKS = ("zarr.json", ".zarray", ".zgroup")


class StoredPixels:
    """The pixels of an array in a zarr store, which are read when they are indexed.

    Parameters
    ----------
    array
        The zarr array.
    path
        Folder of the array, for messages.
    """

    def __init__(self, array: zarr.Array[Any], path: Path) -> None:
        self._array, self._path = array, path
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.ndim, self.dtype = len(self.shape), array.dtype

    def __getitem__(self, key: Index) -> Any:
        """Read a part.

        Raises
        ------
        Unreadable
            If a chunk cannot be read; the message names it.
        """
        try:
            return self._array[key]
        except (MemoryError, IndexError):
            raise
        except Exception as error:
            # Each kind of store, and each codec, has its own exceptions.
            raise Unreadable(self._broken(error)) from error

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.asarray(self[...], dtype=dtype)

    def _broken(self, error: Exception) -> str:
        """Return a sentence that names the damaged chunk, which is found by reading all chunks."""
        chunks = self._array.chunks
        for place in np.ndindex(*(-(-n // c) for n, c in zip(self.shape, chunks, strict=True))):
            box = zip(place, chunks, strict=True)
            try:
                self._array[tuple(slice(p * c, (p + 1) * c) for p, c in box)]
            except Exception as cause:
                where = f"the chunk {'/'.join(map(str, place))} of the array {self._path}"
                return f"{where} cannot be read ({cause}); it is damaged: copy the image anew"
        return f"the array {self._path} could not be read for a while ({error}); try again"


@dataclass(frozen=True)
class ZarrImage:
    """An image in a zarr store.

    Attributes
    ----------
    data
        The finest level; pixels are read when it is indexed.
    axes
        One letter of TZCYX for each axis.
    scale, translation
        Size of a pixel along each axis, and where the first pixel lies, in `units`.
    units
        Unit of each axis; None if it is not known.
    path
        Folder of the image: the store, or a folder in it.
    is_colour, channel_names, notes
        As in `ImageSource`.
    is_named
        Whether the store names the axes.
    """

    data: LazyArray
    axes: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    path: Path
    is_colour: bool = False
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_named: bool = False

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Size of a pixel along Y and X, in micrometres; None if the store does not say."""
        y, x = self._in("Y", in_um), self._in("X", in_um)
        return None if y is None or x is None else (y, x)

    @property
    def source(self) -> ImageSource:
        """The image as an `ImageSource`, as readers of all formats return it."""
        return ImageSource(
            self.data,
            self.axes,
            self.is_colour,
            self.pixel_size_um,
            self._in("Z", in_um),
            self._in("T", in_s),
            self.channel_names,
            self.notes,
        )

    def _in(self, axis: str, convert: Callable[[float, str | None], float | None]) -> float | None:
        place = self.axes.find(axis)
        return None if place < 0 else convert(self.scale[place], self.units[place])


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr store, or an image or array in one."""
    return path.suffix.lower() == SUFFIX or any((path / mark).is_file() for mark in _MARKS)


def fields_of_plate(path: Path) -> list[Path]:
    """Return the images of a plate in OME-Zarr, well by well; empty if it is no plate."""
    import zarr

    try:
        plate = zarr.open(path, mode="r")
        wells = [path / well["path"] for well in _ome(plate).get("plate", {}).get("wells", [])]
        described = [_ome(zarr.open(well, mode="r"))["well"]["images"] for well in wells]
    except Exception:
        # Each kind of store has its own exceptions; who reads it as an image is told.
        return []
    pairs = zip(wells, described, strict=True)
    return [well / field["path"] for well, fields in pairs for field in fields]


def open_zarr(path: Path, axes: str | None = None, series: int | None = None) -> ZarrImage:
    """Open an image in a zarr store for reading.

    Parameters
    ----------
    path
        Folder of an array, or of a group in OME-Zarr.
    axes
        Names of its axes; by default those in the store, or else guessed from the shape.
    series
        Which image of a store that holds several, from 0; by default the first one.

    Raises
    ------
    ValueError
        If there is no image in the store, or its axes are unclear.
    """
    import zarr

    node, path, notes = _find(path, series)
    if isinstance(node, zarr.Array):
        described, level, omero = _described_above(path)
    else:
        attributes = _ome(node)
        described, omero = attributes["multiscales"][0], attributes.get("omero", {})
        level = described["datasets"][0]
        node = node[level["path"]]
    assert isinstance(node, zarr.Array)
    pixels = StoredPixels(node, path / level.get("path", "") if described else path)
    try:
        image = _named(pixels, described, level, axes)
    except Undecided as error:
        raise ValueError(f"{path}: {error.for_files}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    names = tuple(str(channel.get("label", "")) for channel in omero.get("channels", []))
    return replace(
        image,
        path=path,
        notes=(*notes, *image.notes),
        channel_names=names if all(names) else (),
    )


def create_labels(
    path: Path,
    shape: Sequence[int],
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    translation: Sequence[float] | None = None,
    zarr_format: Literal[2, 3] = 2,
    source: str = "",
) -> None:
    """Make a group for labels in OME-Zarr, with all levels of a pyramid, filled with 0.

    Parameters
    ----------
    path
        Folder of the group; it must not exist.
    shape, axes
        Shape and axes of the finest level, without C.
    scale, units, translation
        As in `ZarrImage`; by default the first pixel lies at 0.
    zarr_format
        2 for OME-Zarr 0.4; 3 for 0.5, with files (shards) that hold several chunks each.
    source
        Path of the image from the group, for labels that lie in the store of their image.
    """
    import zarr

    group = zarr.create_group(path, zarr_format=zarr_format)
    in_plane = tuple(CHUNK_PX if axis in "YX" else 1 for axis in axes)
    layout: Metadata = {
        "chunks": in_plane,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    }
    if zarr_format == 3:
        chunks = tuple(_SHARDED_PX if axis in "YX" else 1 for axis in axes)
        layout = {"chunks": chunks, "shards": in_plane}
    datasets: list[Metadata] = []
    for level, level_shape in enumerate(pyramid(shape, axes)):
        group.create_array(
            str(level),
            shape=level_shape,
            dtype=np.int32,
            fill_value=0,
            **layout,
        )
        factors = [2.0**level if axis in "YX" else 1.0 for axis in axes]
        steps = [size * factor for size, factor in zip(scale, factors, strict=True)]
        changes: list[Metadata] = [{"type": "scale", "scale": steps}]
        if translation is not None and any(translation):
            # Each level is made of every second pixel, so the first pixel stays where it is.
            changes.append({"type": "translation", "translation": list(translation)})
        datasets.append({"path": str(level), "coordinateTransformations": changes})
    named: list[Metadata] = [
        {"name": axis.lower(), "type": _TYPES.get(axis, "space")} | ({"unit": unit} if unit else {})
        for axis, unit in zip(axes, units, strict=True)
    ]
    image = {"source": {"image": source}} if source else {}
    multiscale: Metadata = {"name": path.stem, "axes": named, "datasets": datasets}
    if zarr_format == 3:
        group.attrs["ome"] = {
            "version": "0.5", "multiscales": [multiscale], "image-label": image,
        }  # fmt: skip
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
        group.attrs["image-label"] = {"version": "0.4", **image}
    group.attrs[MARK] = {"what": "labels"}


def pyramid(shape: Sequence[int], axes: str) -> list[tuple[int, ...]]:
    """Return the shapes of the levels of a pyramid, the finest first; Y and X are halved."""
    levels = [tuple(shape)]
    while max(n for n, axis in zip(levels[-1], axes, strict=True) if axis in "YX") > CHUNK_PX:
        levels.append(
            tuple(-(-n // 2) if a in "YX" else n for n, a in zip(levels[-1], axes, strict=True))
        )
    return levels


def _find(path: Path, series: int | None) -> tuple[Any, Path, tuple[str, ...]]:
    """Return the array or group of the image in a store, its folder, and what was assumed."""
    import zarr

    try:
        node = zarr.open(path, mode="r")
    except Exception as error:
        # Each kind of store has its own exceptions.
        raise ValueError(f"{path} cannot be read as zarr ({error}); give an OME-Zarr") from error
    if isinstance(node, zarr.Array) or _ome(node).get("multiscales"):
        return node, path, ()
    attributes = _ome(node)
    if "plate" in attributes:
        wells = [well["path"] for well in attributes["plate"].get("wells", [])]
        first = f"{path / wells[0] / '0'}" if wells else "PLATE/A/1/0"
        raise ValueError(
            f"{path} is a plate of {len(wells)} wells; give one field, such as {first}"
        )
    inside = sorted(node.keys(), key=lambda name: (not name.isdigit(), len(name), name))
    images = [name for name in inside if _holds_image(node[name])]
    if not images:
        raise ValueError(
            f"{path} is a group without an OME-Zarr image in it (it holds "
            f"{', '.join(inside) or 'nothing'}); give the folder of the image, or of an array"
        )
    if series is not None and series >= len(images):
        raise ValueError(
            f"{path} holds {len(images)} images; --series is one from 0 to {len(images) - 1}"
        )
    name = images[series or 0]
    notes: tuple[str, ...] = ()
    if series is None and len(images) > 1:
        notes = (
            f"the store holds {len(images)} images and the first, {name}, was taken; "
            f"--series N takes another, one from 0 to {len(images) - 1}",
        )
    return node[name], path / name, notes


def _ome(group: Any) -> Metadata:
    """Return the OME-Zarr metadata of a group; version 0.5 stores them one level deeper."""
    attributes = dict(group.attrs)
    found: Metadata = attributes.get("ome", attributes)
    return found


def _holds_image(node: object) -> bool:
    return hasattr(node, "keys") and bool(_ome(node).get("multiscales"))


def _described_above(path: Path) -> tuple[Metadata, Metadata, Metadata]:
    """Return what the group of an array says about its image, its level and its channels."""
    import zarr

    path = path.resolve()
    for group in list(path.parents)[:3]:
        if any((group / mark).is_file() for mark in _MARKS):
            attributes = _ome(zarr.open(group, mode="r"))
            for described in attributes.get("multiscales", []):
                for level in described["datasets"]:
                    if group / level["path"] == path:
                        return described, {**level, "path": ""}, attributes.get("omero", {})
    return {}, {}, {}


def _named(pixels: LazyArray, described: Metadata, level: Metadata, axes: str | None) -> ZarrImage:
    said = described.get("axes", [])
    names = [axis if isinstance(axis, str) else axis["name"] for axis in said]
    ndim, letters = len(pixels.shape), ""
    if described and not said and ndim == 5:
        letters = ORDER  # OME-Zarr 0.1 and 0.2 always have these axes
    elif len(names) == ndim:
        letters = axes_from_names(names, pixels.shape)
    found, named, left_out = name_array(pixels, axes or letters or None)
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (f"{left_out} axes of length 1 left out",)
    guessed = not (axes or letters)
    if guessed and named != "YX":
        notes += ("the store does not name its axes (--axes does)",)
    is_colour = not letters and named[-1] == "C" and found.shape[-1] in (3, 4)
    n = len(named)
    scale, shift, units = (1.0,) * n, (0.0,) * n, (None,) * n
    # If the user gave other axes, the sizes in the store do not apply.
    if letters and "".join(axis for axis in letters if axis in named) == named:
        kept = [letters.index(axis) for axis in named]
        changes = _changes(described, level, ndim)
        scale, shift = (tuple(part[place] for place in kept) for part in changes)
        said = said or [None] * ndim
        units = tuple(
            said[place].get("unit") if isinstance(said[place], dict) else None for place in kept
        )
    return ZarrImage(found, named, scale, shift, units, Path(), is_colour, (), notes, bool(letters))


def _changes(described: Metadata, level: Metadata, ndim: int) -> tuple[list[float], list[float]]:
    """Return scale and translation along each axis: first of the level, then of the image."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for of in (level, described):
        for change in of.get("coordinateTransformations") or []:
            if "scale" in change:
                factors = change["scale"]
                scale = [a * b for a, b in zip(scale, factors, strict=True)]
                shift = [a * b for a, b in zip(shift, factors, strict=True)]
            elif "translation" in change:
                shift = [a + b for a, b in zip(shift, change["translation"], strict=True)]
            elif change.get("type") != "identity":
                raise ValueError(
                    f"its coordinate transformation {change} is not known; scales and "
                    "translations are"
                )
    return scale, shift
