"""What this plugin knows of a layer; kept in the layer's metadata, so that it outlives the dock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Required, TypedDict, TypeVar, overload

import numpy as np
from napari.layers.base import Layer
from numpy.typing import NDArray

from napari_unet.config import Channel
from napari_unet.core.arrays import Pixels
from napari_unet.core.json_types import JsonObject

T = TypeVar("T")

# The metadata of a layer, which hold whatever anybody put into them.
Metadata = JsonObject

# Where a layer's metadata hold the dictionary of this plugin.
_PLUGIN = "napari_unet"


class Mark(TypedDict, total=False):
    """A confirmed place, see `edits.marks`; json can hold it."""

    index: Required[list[int]]
    """Position of the plane."""

    box: Required[list[int]]
    """First and last row, first and last column; the last ones are not in it."""

    cell: int
    """Only this cell of the box, and a ring around it, are right."""

    ring_px: int
    """Width of that ring."""

    disc: list[int]
    """Only this disc in the box is right: row and column of its middle, and its radius."""

    loop: list[list[float]]
    """Only in this loop it is right, and there is no cell: points (y, x)."""

    gone: list[list[int]]
    """A pixel of each cell that was erased in the loop, and its id: [y, x, id]."""

    drafts: list[int]
    """Draft cells that this mark confirmed."""


class DraftCell(TypedDict):
    """A cell that was proposed and accepted, see `edits.draft_cells`; json can hold it."""

    index: list[int]
    """Position of the plane."""

    box: list[int]
    """First and last row, first and last column around the cell; the last ones are not in it."""

    cell: int
    """Its id."""

    hash: int
    """Of its pixels in the box: another one means that somebody touched it up."""


class Entry(Generic[T]):
    """A typed property of `LayerRecord`: one key of the dictionary, named like the property.

    Reading a key that is missing gives the default and stores nothing. `del` removes the key.

    Parameters
    ----------
    default
        What a missing key stands for; never changed in place.
    """

    def __init__(self, default: T) -> None:
        self._default = default
        self.key = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = name

    @overload
    def __get__(self, record: None, owner: type) -> Entry[T]: ...

    @overload
    def __get__(self, record: LayerRecord, owner: type) -> T: ...

    def __get__(self, record: LayerRecord | None, owner: type) -> Entry[T] | T:
        if record is None:
            return self
        found: T = record.stored.get(self.key, self._default)
        return found

    def __set__(self, record: LayerRecord, value: T) -> None:
        record.writable()[self.key] = value

    def __delete__(self, record: LayerRecord) -> None:
        record.stored.pop(self.key, None)


class LayerRecord:
    """What this plugin knows of one layer, as typed properties.

    It is the only place that knows the names of the keys. It holds no copy: two records of one
    layer show the same. Code outside may read the keys in `layer.metadata["napari_unet"]`, so
    their names and values stay.

    Parameters
    ----------
    metadata
        Of the layer, as napari keeps them.
    """

    # Of image layers

    file_axes: Entry[tuple[tuple[int, ...], str] | None] = Entry(None)
    """Shape of the data when the layer's file was read, and the axes that the file names."""

    file_channels: Entry[tuple[tuple[int, ...], tuple[str, ...]] | None] = Entry(None)
    """Shape of the data when the layer's file was read, and the file's names of the channels."""

    holds_labels: Entry[bool | None] = Entry(None)
    """Whether the image was opened from a store of labels; None until the store is read."""

    # Of images and labels

    axes: Entry[str] = Entry("")
    """One letter of TZCYX for each axis: as the user named an image's, or as labels have them."""

    helper: Entry[bool] = Entry(False)
    """Whether the layer only shows something: painting on it teaches nothing."""

    # Of labels: where they come from

    source: Entry[Hashable] = Entry(None)
    """`unique_id` of the image layer that they were made from; None for labels from elsewhere."""

    image: Entry[str] = Entry("")
    """Name of that image layer."""

    model: Entry[str] = Entry("")
    """The model that found the cells, as NAME@VERSION."""

    channel: Entry[Channel] = Entry(None)
    """The channel that the model saw, "stain", or None for all; see `has_channel`."""

    diameter_px: Entry[float | None] = Entry(None)
    """Diameter of cells for which the image was resized, in pixels; None for its own size."""

    baseline: Entry[NDArray[np.int32] | None] = Entry(None)
    """(..., Y, X) int32, what Segment wrote; None for labels from elsewhere."""

    # Of labels: what the user did

    seen: Entry[dict[tuple[int, ...], NDArray[np.uint8]]] = Entry({})
    """For each plane with corrections of an earlier result: (Y, X) uint8, see `edits.seen`."""

    marks: Entry[list[Mark]] = Entry([])
    """Confirmed places, see `edits.marks`; change them in `writable_marks`."""

    draft_cells: Entry[list[DraftCell]] = Entry([])
    """Cells that were proposed and accepted, see `edits.draft_cells`; append in `add_draft`."""

    classes: Entry[dict[int, str]] = Entry({})
    """Class of each id that is not a plain "cell"; change it in `writable_classes`."""

    measured: Entry[dict[str, Pixels] | None] = Entry(None)
    """Columns of the table that Measure made; None before."""

    since_last: Entry[dict[int, str]] = Entry({})
    """For each id that the result before lacked or had otherwise: "new" or "reshaped"."""

    gone_outlines: Entry[dict[tuple[int, ...], Pixels]] = Entry({})
    """Outlines of the cells that the result before had and this one lacks, for each plane."""

    unit: Entry[str] = Entry("")
    """Unit of length of these measurements; empty where Y and X have different ones."""

    shown: Entry[dict[str, Pixels] | None] = Entry(None)
    """The `measured` that is in napari's table of features; None if there is none."""

    # Of labels: where they stand

    draft: Entry[str | None] = Entry(None)
    """Key of the draft that strokes are saved in; None: they are not saved."""

    draft_owner: Entry[str | None] = Entry(None)
    """Tells the labels of a draft from other labels of the same image."""

    retired: Entry[bool] = Entry(False)
    """Whether another result of the image took their place."""

    handed_on: Entry[bool] = Entry(False)
    """Whether the next result has all corrections, and nothing was painted here since."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    @property
    def stored(self) -> Metadata:
        """The dictionary in the metadata, to read; an empty one where there is none."""
        found: Metadata = self._metadata.get(_PLUGIN, {})
        return found

    def writable(self) -> Metadata:
        """The dictionary in the metadata, added where there is none."""
        found: Metadata = self._metadata.setdefault(_PLUGIN, {})
        return found

    @property
    def has_channel(self) -> bool:
        """Whether it is known which channel the model saw: `channel` may be None then, too."""
        return LayerRecord.channel.key in self.stored

    def writable_marks(self) -> list[Mark]:
        """The list `marks` itself, added where there is none."""
        found: list[Mark] = self.writable().setdefault(LayerRecord.marks.key, [])
        return found

    def add_draft(self, draft: DraftCell) -> None:
        """Append to the list `draft_cells`."""
        self.writable().setdefault(LayerRecord.draft_cells.key, []).append(draft)

    def writable_classes(self) -> dict[int, str]:
        """The dictionary `classes` itself, added where there is none."""
        found: dict[int, str] = self.writable().setdefault(LayerRecord.classes.key, {})
        return found


def record_of(layer: Layer) -> LayerRecord:
    """The record of a layer."""
    return LayerRecord(layer.metadata)


def helper_metadata() -> Metadata:
    """Metadata for a new layer that only shows something: painting on it teaches nothing."""
    metadata: Metadata = {}
    LayerRecord(metadata).helper = True
    return metadata


def is_helper(layer: Layer) -> bool:
    """Whether a layer only shows something."""
    return bool(record_of(layer).helper)
