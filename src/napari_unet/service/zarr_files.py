"""Images and labels in zarr stores: OME-Zarr 0.4 and 0.5, and plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.axes import ORDER
from napari_unet.service.inputs import name_axes
from napari_unet.service.outputs import MARK

if TYPE_CHECKING:
    import zarr

SUFFIX = ".zarr"
# Levels of a pyramid halve until both sides are at most this; so large are its chunks, too.
CHUNK_PX = 1024
_TYPES = {"T": "time", "C": "channel"}
_MICROMETRE = "micrometer"


@dataclass(frozen=True)
class ZarrImage:
    """An image in a zarr store.

    Attributes
    ----------
    data
        The array of the finest level; pixels are read when it is indexed.
    axes
        One letter of TZCYX for each axis.
    scale
        Size of a pixel along each axis, in `units`.
    units
        Of each axis, None where nothing is known.
    """

    data: zarr.Array[Any]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Along Y and X, in micrometres; None if the store does not say."""
        found = [self.scale[n] for n in map(self.axes.index, "YX") if self.units[n] == _MICROMETRE]
        return (found[0], found[1]) if len(found) == 2 else None


def is_zarr(path: Path) -> bool:
    """Whether a path is that of a zarr store."""
    return path.suffix.lower() == SUFFIX


def open_zarr(path: Path, axes: str | None = None) -> ZarrImage:
    """Open an image for reading.

    Parameters
    ----------
    path
        Folder of an array, or of a group in OME-Zarr.
    axes
        Names of its axes; by default what the store says, or else guessed from the shape.

    Raises
    ------
    ValueError
        If there is no image in it, or its axes are unclear.
    """
    import zarr

    try:
        node = zarr.open(path, mode="r")
    except Exception as error:
        # Stores of each kind have exceptions of their own.
        raise ValueError(f"{path} cannot be read as zarr ({error}); give an OME-Zarr") from error
    described: dict[str, Any] = {}
    if isinstance(node, zarr.Group):
        attributes: dict[str, Any] = dict(node.attrs)
        scales = attributes.get("ome", attributes).get("multiscales")
        if not scales:
            inside = ", ".join(sorted(node.keys())) or "nothing"
            raise ValueError(
                f"{path} is a group without an OME-Zarr image in it (it holds {inside}); "
                "give the folder of the image, or of an array"
            )
        described = scales[0]
        node = node[described["datasets"][0]["path"]]
    assert isinstance(node, zarr.Array)
    try:
        return _named(node, described, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def create_labels(
    path: Path, shape: Sequence[int], axes: str, scale: Sequence[float], units: Sequence[Any]
) -> None:
    """Make a group for labels in OME-Zarr 0.4, with the levels of a pyramid, all of it 0.

    Parameters
    ----------
    path
        Folder of the group; must not exist.
    shape, axes
        Of the finest level; no C.
    scale, units
        As in `ZarrImage`.
    """
    import zarr

    group = zarr.create_group(path, zarr_format=2)
    datasets: list[Any] = []
    for level, level_shape in enumerate(pyramid(shape, axes)):
        group.create_array(
            str(level),
            shape=level_shape,
            chunks=tuple(CHUNK_PX if axis in "YX" else 1 for axis in axes),
            dtype=np.int32,
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        factors = [2.0**level if axis in "YX" else 1.0 for axis in axes]
        steps = [size * factor for size, factor in zip(scale, factors, strict=True)]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": steps}],
            }
        )
    named: list[Any] = [
        {"name": axis.lower(), "type": _TYPES.get(axis, "space")} | ({"unit": unit} if unit else {})
        for axis, unit in zip(axes, units, strict=True)
    ]
    group.attrs["multiscales"] = [
        {"version": "0.4", "name": path.stem, "axes": named, "datasets": datasets}
    ]
    group.attrs["image-label"] = {"version": "0.4"}
    group.attrs[MARK] = {"what": "labels"}


def pyramid(shape: Sequence[int], axes: str) -> list[tuple[int, ...]]:
    """Shapes of the levels of a pyramid, the finest first; Y and X are halved."""
    levels = [tuple(shape)]
    while max(n for n, axis in zip(levels[-1], axes, strict=True) if axis in "YX") > CHUNK_PX:
        levels.append(
            tuple(-(-n // 2) if a in "YX" else n for n, a in zip(levels[-1], axes, strict=True))
        )
    return levels


def _named(array: zarr.Array[Any], described: dict[str, Any], axes: str | None) -> ZarrImage:
    said = described.get("axes", [])
    names = "".join((axis if isinstance(axis, str) else axis["name"]).upper() for axis in said)
    known = len(set(names)) == len(names) == array.ndim and not set(names) - set(ORDER)
    named = name_axes(array.shape, axes or (names if known else None))
    scale, units = [1.0] * array.ndim, [None] * array.ndim
    if known and named == names:
        units = [None if isinstance(axis, str) else axis.get("unit") for axis in said]
        for change in described["datasets"][0].get("coordinateTransformations", []):
            scale = change.get("scale", scale)
    return ZarrImage(array, named, tuple(scale), tuple(units))
