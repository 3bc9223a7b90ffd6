"""Read files that microscopes write, plane by plane: CZI (Zeiss), ND2 (Nikon), LIF (Leica).

The libraries that read them come with the extra `formats`; each is imported when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import DTypeLike

from napari_unet.core.arrays import Index, Pixels
from napari_unet.core.checks import Unfit, name_array
from napari_unet.io.image_source import ImageSource, choose_image, in_s, in_um

# A function that reads a part of a plane, from its place along the outer axes and a slice for each
# of the inner axes.
_Read = Callable[[tuple[int, ...], tuple[slice, ...]], Pixels]
# A function that opens a file for reading planes.
_Opened = Callable[[], AbstractContextManager[_Read]]
# What metadata tell: the size of a pixel (y, x) and the step along Z in micrometres, the interval
# in seconds, and the names of the channels.
_Facts = tuple[tuple[float, float] | None, float | None, float | None, list[str]]


class Planes:
    """The pixels of an image in a file, which are read when they are indexed.

    The file is only open while pixels are read.

    Parameters
    ----------
    shape, dtype
        Shape and type of the image.
    n_outer
        Number of outer axes, which come first and count planes. The others are those of a plane.
    opened
        Opens the file for reading planes.
    """

    def __init__(
        self, shape: Sequence[int], dtype: DTypeLike, n_outer: int, opened: _Opened
    ) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.ndim = len(self.shape)
        self._n_outer, self._opened = n_outer, opened

    def __getitem__(self, key: Index) -> Pixels:
        """Read a part, given by whole numbers, slices and an ellipsis."""
        parts: list[Any] = [*key] if isinstance(key, tuple) else [key]
        at = next((n for n, part in enumerate(parts) if part is Ellipsis), len(parts))
        rest, parts = parts[at + 1 :], parts[:at]
        parts += [slice(None)] * (self.ndim - len(parts) - len(rest)) + rest
        if len(parts) > self.ndim:
            raise IndexError(f"{len(parts)} indices for an image of {self.ndim} axes")
        taken = [
            range(n)[part] if isinstance(part, slice) else (range(n)[part],)
            for part, n in zip(parts, self.shape, strict=True)
        ]
        outer, inner = taken[: self._n_outer], taken[self._n_outer :]
        # Readers get slices that go forwards, without steps.
        box = tuple(slice(min(t), max(t) + 1) if t else slice(0, 0) for t in inner)
        steps = tuple(slice(None, None, t.step if isinstance(t, range) else 1) for t in inner)
        found = np.empty([len(t) for t in taken], self.dtype)
        if found.size:
            with self._opened() as read:
                for place in np.ndindex(*(len(t) for t in outer)):
                    index = tuple(t[n] for t, n in zip(outer, place, strict=True))
                    found[place] = read(index, box)[steps]
        return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.asarray(self[...], dtype=dtype)


@dataclass(frozen=True)
class _Found:
    """What a file says about its image. Axes of length 1 are left out; S is the axis of colours."""

    planes: Planes
    axes: str
    pixel_size_um: tuple[float, float] | None
    z_step_um: float | None
    interval_s: float | None
    channel_names: Sequence[str]
    notes: tuple[str, ...]


def is_microscope_file(path: Path) -> bool:
    """Whether a path ends like a file of a microscope: .czi, .nd2 or .lif."""
    return path.suffix.lower() in _READERS


def read_microscope_file(
    path: Path, axes: str | None = None, series: int | None = None
) -> ImageSource:
    """Open an image in a CZI, ND2 or LIF file; its pixels are read when they are indexed.

    Parameters
    ----------
    path
        The file.
    axes
        One letter of TZCYX for each axis longer than 1; by default the axes that the file names.
    series
        Which image (scene, position, series) of the file, from 0; by default the largest one.

    Raises
    ------
    Unfit
        If the library is not installed, there is no such image, or it has other axes.
    Exception
        An exception of the library, if the file is damaged.
    """
    found = _READERS[path.suffix.lower()](path, series)
    said, named = found.axes.replace("S", "C"), axes
    if axes is None:
        if len(set(said)) < len(said):
            raise Unfit("it has colours and channels; save the channels as tif, each of its own")
        others = sorted(set(said) - set("TZCYX"))
        if others:
            raise Unfit(
                f"it has the axes {said}, and an image has T, Z, C, Y and X; save the part with "
                f"one place along {', '.join(others)} as tif"
            )
        named = said
    try:
        planes, named, _ = name_array(found.planes, named, rgb=False)
    except ValueError as error:
        raise Unfit(str(error)) from error
    is_colour = found.axes[-1] == "S" and named[-1] == "C"
    count = planes.shape[named.index("C")] if "C" in named else 1
    names = tuple(found.channel_names)
    if is_colour or not all(names) or not len(set(names)) == len(names) == count:
        names = ()
    sizes = (found.pixel_size_um, found.z_step_um, found.interval_s)
    return ImageSource(planes, named, is_colour, *sizes, names, found.notes)


@contextmanager
def _from_extra(path: Path) -> Iterator[None]:
    """Raise an error that says what to install if the block misses a library."""
    try:
        yield
    except ModuleNotFoundError as error:
        needs = f"files that end in {path.suffix} are read by {error.name}, which is not installed"
        # The extra `formats` has the same condition.
        if path.suffix.lower() == ".czi" and sys.version_info >= (3, 14):
            raise Unfit(f"{needs}, and needs Python 3.13 or older; save it as tif") from error
        raise Unfit(f'{needs}; run: pip install "napari-unet[formats]"') from error


def _long(sizes: Mapping[str, int]) -> dict[str, int]:
    return {axis: n for axis, n in sizes.items() if n > 1 or axis in "YX"}


def _read_czi(path: Path, series: int | None) -> _Found:
    with _from_extra(path):
        from pylibCZIrw import czi
    with czi.open_czi(str(path)) as file:
        boxes = dict(sorted(file.scenes_bounding_rectangle_no_pyramid.items()))
        if not boxes:
            boxes = {None: file.total_bounding_rectangle_no_pyramid}
        counts = {axis: last for axis, (_, last) in file.total_bounding_box.items()}
        types = [file.get_channel_pixel_type(c) for c in range(counts["C"])]
        root = ElementTree.fromstring(file.raw_metadata)
    scenes = [*boxes]
    names = [scene.get("Name", "") for scene in root.iterfind(f"{_CZI_IMAGE}/S/Scenes/Scene")]
    names = names if len(names) == len(scenes) else [""] * len(scenes)
    number, notes = choose_image(
        names, {n: b.w * b.h for n, b in enumerate(boxes.values())}, series
    )
    scene = scenes[number]
    x, y, width, height = boxes[scene]
    # S are the scenes, M the tiles of a mosaic, which are read as one.
    outer = _long({axis: n for axis, n in counts.items() if axis not in "SMYX"})
    order = "".join(sorted(outer, key="BVHIRTZC".index))
    inner = {"Y": height, "X": width}
    if any(name.startswith("Bgr") for name in types):
        inner["S"] = 3

    @contextmanager
    def opened() -> Iterator[_Read]:
        def read(index: tuple[int, ...], box: tuple[slice, ...]) -> Pixels:
            rows, columns = box[:2]
            roi = (
                x + columns.start,
                y + rows.start,
                columns.stop - columns.start,
                rows.stop - rows.start,
            )
            part: Pixels = file.read(roi, dict(zip(order, index, strict=True)), scene)
            # Colours are stored as blue, green, red.
            return part[..., ::-1][..., box[2]] if "S" in inner else part[..., 0]

        with czi.open_czi(str(path)) as file:
            yield read

    dtype = np.result_type(*(_CZI_TYPES[name] for name in types))
    return _Found(
        Planes([*(outer[axis] for axis in order), *inner.values()], dtype, len(order), opened),
        order + "".join(inner),
        *_czi_facts(root),
        notes,
    )


_CZI_IMAGE = "./Metadata/Information/Image/Dimensions"
_CZI_TYPES = {
    **{"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32},
    **{"Bgr24": np.uint8, "Bgr48": np.uint16, "Bgr96Float": np.float32},
}


def _czi_facts(root: ElementTree.Element) -> _Facts:
    """Return what the metadata of a CZI tell."""
    sizes = {
        distance.get("Id"): in_um(distance.findtext("Value"), "m")
        for distance in root.iterfind("./Metadata/Scaling/Items/Distance")
    }
    y, x = sizes.get("Y"), sizes.get("X")
    interval = root.findtext(f"{_CZI_IMAGE}/T/Positions/Interval/Increment")
    names = [c.get("Name", "") for c in root.iterfind(f"{_CZI_IMAGE}/Channels/Channel")]
    return (y, x) if y and x else None, sizes.get("Z"), in_s(interval, "s"), names


def _read_nd2(path: Path, series: int | None) -> _Found:
    with _from_extra(path):
        import nd2
    with nd2.ND2File(path) as file:
        sizes, dtype = dict(file.sizes), file.dtype
        loops = {loop.type: loop.parameters for loop in file.experiment}
        channels = file.metadata.channels or []
    count = sizes.get("P", 1)
    points = loops["XYPosLoop"].points if "XYPosLoop" in loops else []
    names = [point.name or "" for point in points] if len(points) == count else [""] * count
    number, notes = choose_image(
        names, dict.fromkeys(range(count), sizes["Y"] * sizes["X"]), series
    )
    outer = {axis: n for axis, n in sizes.items() if axis not in "CYXS"}
    inner = {axis: n for axis, n in sizes.items() if axis in "CYXS"}
    kept = {axis: n for axis, n in outer.items() if axis != "P"}

    @contextmanager
    def opened() -> Iterator[_Read]:
        def read(index: tuple[int, ...], box: tuple[slice, ...]) -> Pixels:
            at = dict(zip(kept, index, strict=True)) | {"P": number}
            place = [at[axis] for axis in outer]
            frame = int(np.ravel_multi_index(place, tuple(outer.values()))) if outer else 0
            # The file is mapped into memory: what is read is copied before it is closed.
            return np.array(file.read_frame(frame).reshape(tuple(inner.values()))[box])

        with nd2.ND2File(path) as file:
            yield read

    volume = channels[0].volume if channels else None
    x, y, z = (
        (
            in_um(size, "um") if known else None
            for size, known in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
        )
        if volume
        else (None, None, None)
    )
    time = loops.get("TimeLoop")
    return _Found(
        Planes([*kept.values(), *inner.values()], dtype, len(kept), opened),
        "".join([*kept, *inner]),
        (y, x) if y and x else None,
        z,
        in_s(time.periodMs or time.periodDiff.avg, "ms") if time else None,
        [channel.channel.name for channel in channels],
        notes,
    )


def _read_lif(path: Path, series: int | None) -> _Found:
    with _from_extra(path):
        import liffile
    with liffile.LifFile(path) as file:
        # The tiles of a scan are images of their own.
        images = [
            (number, tile)
            for number, image in enumerate(file.images)
            if not image.is_flim
            for tile in range(image.sizes.get("M", 1))
        ]
        if not images:
            raise Unfit("it holds no image; give another file")
        found = [file.images[number] for number, _ in images]
        names = [
            f"{image.path}, tile {tile}" if "M" in image.sizes else str(image.path)
            for image, (_, tile) in zip(found, images, strict=True)
        ]
        px = {n: image.sizes.get("Y", 1) * image.sizes.get("X", 1) for n, image in enumerate(found)}
        chosen, notes = choose_image(names, px, series)
        number, tile = images[chosen]
        image = found[chosen]
        frame = "".join(image.frames.frame_dims)
        if frame not in ("YX", "YXS"):
            raise Unfit(f"its planes have the axes {frame}; save planes of Y and X as tif")
        sizes = _long(image.sizes)
        dtype, description = image.dtype, image.xml_element.find("./Data/Image/ImageDescription")
    inner = {axis: n for axis, n in sizes.items() if axis in frame}
    outer = {axis: n for axis, n in sizes.items() if axis not in (*frame, "M")}

    @contextmanager
    def opened() -> Iterator[_Read]:
        def read(index: tuple[int, ...], box: tuple[slice, ...]) -> Pixels:
            at = dict(zip(outer, index, strict=True)) | ({"M": tile} if "M" in sizes else {})
            return np.asarray(image.frame(**at))[box]

        with liffile.LifFile(path) as file:
            image = file.images[number]
            yield read

    return _Found(
        Planes([*outer.values(), *inner.values()], dtype, len(outer), opened),
        "".join([*outer, *inner]),
        *_lif_facts(description),
        notes,
    )


def _lif_facts(description: Any) -> _Facts:
    """Return what the metadata of an image in a LIF tell."""
    steps = {}
    for axis in description.iterfind("./Dimensions/DimensionDescription"):
        count, length = int(axis.get("NumberOfElements")), abs(float(axis.get("Length")))
        # The length is the distance from the first pixel to the last one.
        steps[axis.get("DimID")] = length / max(1, count - 1), axis.get("Unit")
    x, y, z = (in_um(*steps[place]) if place in steps else None for place in "123")
    channels = description.iterfind("./Channels/ChannelDescription")
    names = [
        channel.findtext("./ChannelProperty[Key='DyeName']/Value") or channel.get("LUTName", "")
        for channel in sorted(channels, key=lambda channel: int(channel.get("BytesInc")))
    ]
    return (y, x) if y and x else None, z, in_s(*steps["4"]) if "4" in steps else None, names


_READERS: Mapping[str, Callable[[Path, int | None], _Found]] = {
    ".czi": _read_czi,
    ".nd2": _read_nd2,
    ".lif": _read_lif,
}
SUFFIXES = frozenset(_READERS)
