"""Labels in OME-Zarr as Labels layers, and Labels layers as OME-Zarr."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Required, TypedDict

import numpy as np
from napari import current_viewer
from napari.layers import Image, Labels
from napari.layers.base import Layer
from napari.utils.events import Event
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import axes_from_names, label_axes, planes_last
from napari_unet.core.checks import name_axes, whole_labels
from napari_unet.core.json_types import JsonObject
from napari_unet.io.images import stem_of
from napari_unet.io.label_stores import holds_labels, write_label_store
from napari_unet.io.ome_zarr import open_zarr
from napari_unet.jobs import sentence
from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.layers import stack_shape
from napari_unet.plugin.viewer.record import LayerRecord, Metadata, is_helper, record_of

LayerData = tuple[LazyArray | list[LazyArray], dict[str, object], str]
# Labels of more pixels are shown level by level, and cannot be painted on.
_LARGEST_PX = 1 << 27


class LayerMeta(TypedDict, total=False):
    """What napari says of a layer that is to be written, as far as it is used here."""

    metadata: Metadata
    axis_labels: Sequence[str]
    units: Sequence[object]
    scale: Required[Sequence[float]]
    translate: Required[Sequence[float]]


def get_reader(
    path: str | Sequence[str],
) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """The reader of labels that napari asks for; None for all that is no labels in OME-Zarr."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or not all(holds_labels(Path(name)) for name in paths):
        return None
    return read


def read(path: str | Sequence[str]) -> list[LayerData]:
    """Labels of stores, as napari wants them; for where they lie see `labels_in`.

    Raises
    ------
    ValueError
        As `labels_in`.
    """
    paths = [path] if isinstance(path, str) else path
    return [labels_in(Path(name), current_viewer()).as_layer_data_tuple() for name in paths]


def open_labels(viewer: Viewer) -> None:
    """Ask for a folder, and open the labels in it; for napari's menu."""
    chosen = QFileDialog.getExistingDirectory(None, "Open labels (OME-Zarr)")
    if chosen:
        try:
            viewer.add_layer(labels_in(Path(chosen), viewer))
        except (ValueError, OSError) as error:
            show_error(sentence(error))


def labels_in(path: Path, viewer: Viewer | None) -> Labels:
    """A Labels layer of a store.

    It lies over the image in the viewer that has its size, if there is one such image; else where
    the store says.

    Raises
    ------
    ValueError
        If the store holds no labels, or they are no whole numbers.
    """
    if not holds_labels(path):
        raise ValueError(
            f"{path} holds no labels: its metadata do not say image-label; open it as an image"
        )
    found = open_zarr(path)
    data, axes = found.data, found.axes
    keep = [number for number, axis in enumerate(axes) if axis != "C"]
    if len(keep) < len(axes) and data.shape[axes.index("C")] > 1:
        raise ValueError(f"{path}: labels have no channels, and these have the axes {axes}")
    named, name = label_axes(axes), stem_of(path)
    options: dict[str, object] = {
        "scale": [found.scale[number] for number in keep],
        "translate": [found.translation[number] for number in keep],
        "units": [found.units[number] or "pixel" for number in keep],
        "axis_labels": [axes[number].lower() for number in keep],
    }
    if math.prod(data.shape) > _LARGEST_PX:
        return Labels(_levels(path, len(keep)), name=name, multiscale=True, **options)
    pixels = np.asarray(data[...])
    if len(keep) < len(axes):
        pixels = pixels.take(0, axis=axes.index("C"))
    pixels = whole_labels(pixels)
    planes = planes_last(pixels, named)
    layers = viewer.layers if viewer is not None else ()
    images = [x for x in layers if isinstance(x, Image) and not is_helper(x)]
    over = [x for x in images if stack_shape(x) == planes.shape and not _shows_labels(x)]
    if len(over) == 1:
        return labels_like(over[0], planes, name, {})
    layer = Labels(pixels, name=name, **options)
    record_of(layer).axes = named
    return layer


def write_labels(
    path: str, layers: Sequence[tuple[LazyArray | Sequence[LazyArray], LayerMeta, str]]
) -> list[str]:
    """Write a Labels layer as OME-Zarr; the writer that napari calls. Returns the path.

    The manifest says that it may take vectors as well, and then it refuses them: a name without an
    ending goes to the writer with the fewest types of layers, which is napari's own.

    Raises
    ------
    OSError
        If there is something that this program did not write, a label is negative or beyond int32,
        the axes are unclear, or there are other layers. Of a `ValueError` napari says that there is
        no writer.
    """
    if len(layers) != 1:
        raise OSError(
            f"{len(layers)} layers are selected, and {path} holds one of labels; select that alone"
        )
    ((data, meta, _),) = layers
    try:
        _write(Path(path), data, meta)
    except ValueError as error:
        raise OSError(str(error)) from error
    return [path]


def _write(path: Path, data: LazyArray | Sequence[LazyArray], meta: LayerMeta) -> None:
    is_pyramid = isinstance(data, list | tuple) or hasattr(data, "_data")
    finest: LazyArray = data[0] if is_pyramid else data  # type: ignore[assignment]
    axes = LayerRecord(meta.get("metadata", {})).axes
    if len(axes) != finest.ndim:
        names = [str(name) for name in meta.get("axis_labels", ())]
        named = len(names) == finest.ndim and not any(n.lstrip("axis -").isdigit() for n in names)
        axes = axes_from_names(names, finest.shape) if named else name_axes(finest.shape, rgb=False)
    keep = [number for number, axis in enumerate(axes) if axis != "C"]
    pixels = finest[tuple(0 if axis == "C" else slice(None) for axis in axes)]
    units = [str(unit) for unit in meta.get("units") or ["pixel"] * len(axes)]
    write_label_store(
        path,
        pixels,
        "".join(axes[number] for number in keep),
        [float(meta["scale"][number]) for number in keep],
        [None if units[number] == "pixel" else units[number] for number in keep],
        [float(meta["translate"][number]) for number in keep],
    )


class LabelsInImages:
    """Puts Labels layers in the place of labels that napari opened as an image.

    napari's own reader, which a script gets and who chooses it, shows every zarr store as an image.

    Parameters
    ----------
    viewer
        Whose layers are looked at, those that are there and those to come.

    Signals
    -------
    failed
        A sentence.
    """

    failed = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in list(viewer.layers):
            self._look(layer)

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)

    def _on_inserted(self, event: Event) -> None:
        self._look(event.value)

    def _look(self, layer: Layer) -> None:
        if isinstance(layer, Image) and _shows_labels(layer):
            # Not while the list of layers is about to change.
            QTimer.singleShot(0, partial(self._replace, layer))

    def _replace(self, image: Image) -> None:
        if image not in self._viewer.layers:
            return
        try:
            labels = labels_in(Path(image.source.path), self._viewer)
        except (ValueError, OSError) as error:
            record_of(image).holds_labels = False
            self.failed.emit(sentence(error))
            return
        place = self._viewer.layers.index(image)
        self._viewer.layers.remove(image)
        labels.name = image.name
        self._viewer.layers.insert(place, labels)
        self._viewer.layers.selection.active = labels
        show_info(f"'{labels.name}' holds labels: it is shown as a Labels layer")


def _shows_labels(image: Image) -> bool:
    """Whether an image layer was opened from a store of labels; the store is looked at once."""
    if not image.source.path:
        return False
    record = record_of(image)
    found = record.holds_labels
    if found is None:
        record.holds_labels = found = holds_labels(Path(image.source.path))
    return found


def _levels(path: Path, ndim: int) -> list[LazyArray]:
    """The arrays of all levels, lazy, the finest first, without an axis of channels."""
    import dask.array as da
    import zarr

    group = zarr.open_group(path, mode="r")
    attributes: JsonObject = dict(group.attrs)
    described = attributes.get("ome", attributes)["multiscales"][0]
    levels = [da.from_zarr(group[level["path"]]) for level in described["datasets"]]
    names = [axis if isinstance(axis, str) else axis["name"] for axis in described.get("axes", [])]
    if "c" in names and levels[0].ndim > ndim:
        levels = [level.take(0, axis=names.index("c")) for level in levels]
    return levels
