"""What the boxes of the dock offer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image, Labels
from napari.layers.base import Layer
from napari.viewer import Viewer

from napari_unet.plugin.dock.steps import describe
from napari_unet.plugin.dock.widgets import shrink
from napari_unet.plugin.results.result_layers import Results
from napari_unet.plugin.viewer.layers import fits
from napari_unet.plugin.viewer.record import is_helper


class LayerBoxes:
    """The image and the labels that the dock works on; they follow the layer that is selected.

    Parameters
    ----------
    viewer
        Holds the layers.
    results
        Knows which labels belong to which image.

    Attributes
    ----------
    image, labels
        The boxes.
    """

    def __init__(self, viewer: Viewer, results: Results) -> None:
        self._viewer, self._results = viewer, results
        self._followed: Layer | None = None
        images, labels = (layers_of(viewer, kind) for kind in (Image, Labels))
        self.image = ComboBox(
            label="Image", choices=images, nullable=True, tooltip="The image to find cells in"
        )
        self.labels = ComboBox(
            label="Labels to correct",
            choices=labels,
            nullable=True,
            tooltip="The cells that you correct, and that are measured; labels of your own "
            "(from another program, or painted) will do: each cell is then an example",
        )
        self._tips = {box: box.tooltip or "" for box in (self.image, self.labels)}
        for box in (self.image, self.labels):
            shrink(box.native)
            box.native.currentTextChanged.connect(partial(self._tell_name, box))
        self.labels.changed.connect(self._show_alone)

    def _tell_name(self, box: ComboBox, name: str) -> None:
        """Show the whole name in the tooltip: the box may be too narrow for it."""
        describe(box.native, f"{name}\n{self._tips[box]}" if name else self._tips[box])

    def chosen_image(self) -> Image:
        """The image; a `ValueError` where none is chosen."""
        if self.image.value is None:
            raise ValueError("there is no image; open one (File ▸ Open, or drop it here)")
        return self.image.value

    def chosen_labels(self) -> Labels:
        """The labels; a `ValueError` where none are chosen."""
        if self.labels.value is None:
            raise ValueError("there are no labels yet; click Segment first")
        return self.labels.value

    def refresh(self) -> None:
        """Offer the layers that are there now."""
        for box in (self.image, self.labels):
            before = box.value
            with box.changed.blocked():
                box.reset_choices()
                # The box itself knows a layer by its name, which may be another one now.
                if before in box.choices:
                    box.value = before
            if box.value != before:
                box.changed.emit(box.value)

    def follow(self) -> None:
        """Choose the selected layer, and what belongs to it.

        Where no image is chosen then, it is the uppermost one that is visible, of several selected
        ones if there are any.
        """
        layer = self._viewer.layers.selection.active
        # A layer that only shows something comes and goes, and leaves the choice as it was:
        # meanwhile no layer is selected for a moment.
        if layer is not None and not is_helper(layer) and layer != self._followed:
            self._followed = layer
            if isinstance(layer, Image):
                self._choose_image(layer)
            elif isinstance(layer, Labels):
                self.labels.value = layer
                source = self._results.source_of(layer)
                if source is not None:
                    self.image.value = source
        if self.image.value is None:
            images = [image for _, image in layers_of(self._viewer, Image)(None)]
            seen = [image for image in images if image.visible]
            selected = [image for image in seen if image in self._viewer.layers.selection]
            for image in (selected or seen or images)[:1]:
                self.image.value = image
                self.labels.value = self.labels.value or self._results.current(image)

    def _show_alone(self, labels: Labels | None) -> None:
        """Show the chosen labels, and no result under them: the two could not be told apart."""
        if labels is None:
            return
        image = self._results.source_of(labels) or self.image.value
        if image is None or not fits(labels, image):
            return
        for other in self._results.of(image):
            if other != labels:
                other.visible = False
        if not labels.visible:
            labels.visible = True

    def _choose_image(self, image: Image) -> None:
        self.image.value = image
        chosen = self.labels.value
        source = self._results.source_of(chosen) if chosen is not None else None
        result = self._results.current(image)
        # Those that were made from this image stay, be they the latest or not.
        if source != image and (source is not None or result is not None):
            self.labels.value = result


def layers_of(viewer: Viewer, kind: type[Layer]) -> Callable[[Any], list[tuple[str, Any]]]:
    """Layers of a kind, the uppermost first, without those that only show something."""
    return lambda widget: [
        (layer.name, layer)
        # Slicing the list would make another one of napari's, at 15 ms a time.
        for layer in reversed(viewer.layers)
        if isinstance(layer, kind) and not is_helper(layer)
    ]
