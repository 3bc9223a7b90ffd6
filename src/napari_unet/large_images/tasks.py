"""The tasks of a large job. Any process that sees the files of the job can run them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.arrays import Pixels
from napari_unet.core.axes import label_axes, take_channel
from napari_unet.core.boxes import Box
from napari_unet.core.intensity import Statistics
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import replacing
from napari_unet.io.ome_zarr import open_zarr
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.segmentation.tiled_plane import PlaneSource


@dataclass(frozen=True)
class Volume:
    """Description of one large job: paths and settings only, cheap to pickle for workers.

    Attributes
    ----------
    image, axes
        Path of the zarr store, and a letter of TZCYX for each axis.
    model
        Path of the model file.
    work
        Path of the folder for unfinished work.
    config
        Settings, with a diameter in pixels or None.
    run
        A text that is new each time a job begins or is resumed. Images and models that a worker
        keeps in memory are used within one run only, because the files may change between runs.
    """

    image: str
    axes: str
    model: str
    work: str
    config: PredictConfig
    run: str

    @property
    def out(self) -> Path:
        """Path of the labels while they are not finished."""
        return Path(self.work, "labels.zarr")

    @property
    def sections(self) -> Path:
        """Path of the labels of single planes, before linking; `out` if cells are not linked."""
        return self.out if self.config.link == "none" else Path(self.work, "sections.zarr")


@dataclass(frozen=True)
class VolumePlane:
    """One plane of a volume.

    Attributes
    ----------
    volume
        The volume that contains it.
    index
        Its position along the axes other than C, Y, X.
    statistics
        Its intensities that become 0 and 1; None to measure them.
    """

    volume: Volume
    index: tuple[int, ...]
    statistics: Statistics | None = None

    @property
    def name(self) -> str:
        """Name of the plane in the names of its files."""
        return "-".join(map(str, self.index)) or "plane"

    def path(self, kind: str) -> Path:
        """Return the path of the plane's own file or folder of one kind."""
        return Path(self.volume.work, kind, self.name)

    def is_done(self, kind: str, number: int) -> bool:
        """Return whether a task is done."""
        return self._mark(kind, number).exists()

    def mark(self, kind: str, number: int, **arrays: NDArray[np.generic]) -> None:
        """Write the file that says that a task is done, with the arrays that it found."""
        with replacing(self._mark(kind, number)) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def known(self, kind: str, number: int) -> dict[str, Pixels]:
        """Return the arrays that were stored when a task was done."""
        with np.load(self._mark(kind, number)) as file:
            return dict(file)

    def _mark(self, kind: str, number: int) -> Path:
        return self.path(f"done-{kind}") / f"{number}.npz"


def score_tile(plane: VolumePlane, number: int) -> None:
    """Predict the scores of a tile, and write them to the scores of the plane."""
    large = large_plane(plane)
    tile = large.tiles[number]
    scores = _scores(plane)
    for name, part in large.score(tile).items():
        scores[name][tile.write] = part
    plane.mark("tile", number)


def label_block(plane: VolumePlane, number: int) -> None:
    """Label a block of a plane; all tiles of the plane must be done."""
    large = large_plane(plane)
    box = large.blocks[number]
    block = large.label(box, _scores(plane))
    _local(plane)[box] = block.labels
    known = {name: value for name, value in vars(block).items() if name != "labels"}
    plane.mark("block", number, **known)


def write_block(plane: VolumePlane, number: int, ids: NDArray[np.int32]) -> None:
    """Write the labels of a block with their final ids; `ids` has one for each local label."""
    box = large_plane(plane).blocks[number]
    if len(ids) > 1:
        _sections(plane)[box] = ids[_local(plane)[box]]
    plane.mark("ids", number)


def count_overlaps(plane: VolumePlane, number: int, earlier: Sequence[VolumePlane]) -> None:
    """Count the pixels that the cells of a block share with cells of earlier planes."""
    from napari_unet.core.cells.linking import overlaps

    box = large_plane(plane).blocks[number]
    here = _sections(plane)[box]
    tables = {other.name: np.stack(overlaps(_sections(other)[box], here)) for other in earlier}
    plane.mark("overlap", number, **tables)


def write_objects(plane: VolumePlane, number: int, first: int) -> None:
    """Write a block with the ids of linked cells; the ids in its plane begin at `first` + 1."""
    box = large_plane(plane).blocks[number]
    part = _sections(plane)[box]
    if part.any():
        ids = np.concatenate(([0], np.load(plane.path("objects"))))
        _target(plane, 0)[box] = ids[np.where(part > 0, part - first, 0)]
    plane.mark("object", number)


def write_level(plane: VolumePlane, number: int, level: int, box: Box) -> None:
    """Write a box of one level of the pyramid, from the level before it."""
    y, x = (slice(2 * side.start, 2 * side.stop, 2) for side in box)
    part = _target(plane, level - 1)[y, x]
    if part.any():
        _target(plane, level)[box] = part
    plane.mark(f"level-{level}", number)


def prepared(plane: VolumePlane) -> VolumePlane:
    """Return the plane with its statistics, and make its stores of scores and local labels."""
    import zarr

    measured = large_plane(plane)
    plane.mark("missing", 0, px=np.array(measured.missing_px))
    plane = replace(plane, statistics=measured.statistics)
    large = large_plane(plane)
    for name, dtype in large.score_types().items():
        tile = large.tiles[0].write
        path, chunks = plane.path("scores") / name, (tile[0].stop, tile[1].stop)
        if not path.exists():
            with whole(path) as part:
                zarr.create_array(
                    part, shape=large.seen_shape, dtype=dtype, chunks=chunks, compressors=None
                )
    if not plane.path("local").exists():
        block = large.blocks[0]
        with whole(plane.path("local")) as part:
            chunks = block[0].stop, block[1].stop
            zarr.create_array(part, shape=large.shape, dtype=np.int32, chunks=chunks)
    return plane


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to `path` at the end if nothing was raised."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    yield part
    part.replace(path)


@lru_cache(maxsize=8)
def large_plane(plane: VolumePlane) -> PlaneSource:
    """Return the plane with its image and model, which each process opens once."""
    volume = plane.volume
    store = open_zarr(Path(volume.image), volume.axes)
    image, axes = take_channel(store.data, store.axes, volume.config.channel)
    compute = choose(volume.config.device, volume.config.precision)
    large = PlaneSource(
        _model(volume.model, volume.run), image, axes, plane.index, volume.config, compute
    )
    if plane.statistics is not None:
        vars(large)["statistics"] = plane.statistics
    return large


@lru_cache(maxsize=1)
def _model(path: str, run: str) -> LoadedModel:
    from napari_unet.models.checkpoint import load_model

    return LoadedModel(*load_model(Path(path)))


def _scores(plane: VolumePlane) -> JsonObject:
    import zarr

    folder = plane.path("scores")
    return {
        name: zarr.open_array(folder / name, mode="r+") for name in large_plane(plane).score_types()
    }


def _local(plane: VolumePlane) -> Any:
    import zarr

    return zarr.open_array(plane.path("local"), mode="r+")


def _target(plane: VolumePlane, level: int) -> _StoredPlane:
    return _stored_plane(plane, plane.volume.out / str(level))


def _sections(plane: VolumePlane) -> _StoredPlane:
    return _stored_plane(plane, plane.volume.sections / "0")


def _stored_plane(plane: VolumePlane, path: Path) -> _StoredPlane:
    import zarr

    return _StoredPlane(zarr.open_array(path, mode="r+"), plane.volume.axes, plane.index)


@dataclass(frozen=True)
class _StoredPlane:
    """One plane (Y, X) of the labels in a zarr array, read and written box by box."""

    array: Any
    axes: str
    index: tuple[int, ...]

    def __getitem__(self, box: Box) -> NDArray[np.int32]:
        part: NDArray[np.int32] = np.asarray(self.array[self._key(box)])
        return part.T if self._is_turned else part

    def __setitem__(self, box: Box, part: NDArray[np.int32]) -> None:
        self.array[self._key(box)] = part.T if self._is_turned else part

    @property
    def _is_turned(self) -> bool:
        return self.axes.index("X") < self.axes.index("Y")

    def _key(self, box: Box) -> tuple[int | slice, ...]:
        position, sides = iter(self.index), dict(zip("YX", box, strict=True))
        return tuple(sides[a] if a in sides else next(position) for a in label_axes(self.axes))
