"""Labels that a user made or brought for an image of a project: they become the image's labels."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
from napari.layers import Labels
from napari.utils.events import Event
from psygnal import Signal

from napari_unet.plugin.edits.tracker import EditCount
from napari_unet.plugin.projects.layers import key_of
from napari_unet.plugin.projects.queue import Queue
from napari_unet.plugin.viewer.layers import fits, planes_of
from napari_unet.plugin.viewer.record import is_helper, record_of


class OwnLabels:
    """Takes Labels layers from elsewhere for the open image of a folder.

    A layer that was added while the image was open is taken as soon as it holds a cell, if the
    image has no labels yet. Others are offered: they may be there to compare with, or belong to
    another image.

    Parameters
    ----------
    queue
        The folder.

    Signals
    -------
    offered
        A sentence about labels that are not saved, which `take` takes; empty: there are none.
    """

    offered = Signal(str)

    def __init__(self, queue: Queue) -> None:
        self._queue, self._controller = queue, queue.controller
        # The layer that is offered, and for which image.
        self._offer: Labels | None = None
        self._offered_for = ""
        # For the unique id of each layer that was added, the name of the image that was open.
        self._added: dict[object, str] = {}
        self._controller.corrections.counted.connect(self._on_counted)
        queue.changed.connect(self._on_changed)
        queue.viewer.layers.events.inserted.connect(self._on_inserted)
        queue.viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Let go of the viewer."""
        self._controller.corrections.counted.disconnect(self._on_counted)
        self._queue.changed.disconnect(self._on_changed)
        self._queue.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._queue.viewer.layers.events.removed.disconnect(self._on_removed)

    def take(self) -> None:
        """Make the labels that are offered those of the open image; others are hidden."""
        labels = self._offer
        self._withdraw()
        if labels is not None and labels in self._queue.viewer.layers:
            self._take(labels)

    def _on_inserted(self, event: Event) -> None:
        if isinstance(event.value, Labels):
            self._added[event.value.unique_id] = self._queue.name

    def _on_removed(self, event: Event) -> None:
        self._added.pop(event.value.unique_id, None)
        if event.value == self._offer:
            self._withdraw()

    def _on_changed(self) -> None:
        if self._queue.name != self._offered_for:
            self._withdraw()

    def _on_counted(self, labels: Labels, count: EditCount | str) -> None:
        queue = self._queue
        image, name = queue.image, queue.name
        if image is None or not isinstance(count, EditCount) or labels not in queue.viewer.layers:
            return
        if record_of(labels).source is not None or is_helper(labels) or not fits(labels, image):
            if labels != self._offer:
                self._withdraw()
            return
        if not count.n_cells:
            return
        has_others = self._controller.results.current(image) is not None
        if not has_others and self._added.get(labels.unique_id) == name:
            self._take(labels)
            return
        self._offer, self._offered_for = labels, name
        why = f": {name} has other labels" if has_others else f" as those of {name}"
        self.offered.emit(f'The labels "{labels.name}" are not saved{why}')

    def _take(self, labels: Labels) -> None:
        queue, controller = self._queue, self._controller
        image, project = queue.image, queue.project
        if image is None or project is None:
            return
        for other in controller.results.of(image):
            record_of(other).retired = True
            other.visible = False
        record = record_of(labels)
        record.source, record.image = image.unique_id, image.name
        record.draft, record.draft_owner = key_of(project, queue.name), uuid4().hex
        # Nothing was found by a model, so each cell is a correction.
        record.baseline = np.zeros(planes_of(labels).shape, np.int32)
        mask = controller.corrections.tracker(labels).mask
        controller.corrections.start_again(labels)
        controller.corrections.tracker(labels).notify()
        queue.told.emit(f'"{labels.name}" is saved as the labels of {queue.name}')
        if mask:
            queue.told.emit(f"{mask[0].upper()}{mask[1:]}")

    def _withdraw(self) -> None:
        if self._offer is not None:
            self._offer = None
            self.offered.emit("")
