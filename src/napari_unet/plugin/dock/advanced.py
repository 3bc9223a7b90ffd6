"""Settings of the dock that most people never touch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    LineEdit,
    PushButton,
    SpinBox,
)
from magicgui.widgets.bases import Widget
from napari.layers import Image
from superqt import QCollapsible

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.plugin.jobs.scope import PLANE, SCOPES
from napari_unet.plugin.viewer.layers import axes_named, channel_names, name_axes_of

# The model file decides where a setting stands at this value.
_MODEL_DECIDES = 0
_AUTOMATIC = -1
_CHANNEL_TIP = (
    "Which one the model sees, from 0; automatic: all if their number suits the model, else the "
    "one in view"
)


class Advanced(QCollapsible):
    """The settings, folded away at first."""

    def __init__(self) -> None:
        super().__init__("Advanced")
        self.scope = ComboBox(
            label="Segment",
            choices=SCOPES,
            value=PLANE,
            tooltip="A stack: all Z of the time point in view",
        )
        self.axes = LineEdit(
            label="Axes",
            tooltip="One letter of TZCYX for each axis of this image; empty: automatic",
        )
        self.axes.changed.connect(self._name_axes)
        self._image: Image | None = None
        self.channel = _number(
            "automatic",
            label="Channel",
            min=_AUTOMATIC,
            max=9_999,
            tooltip=_CHANNEL_TIP,
        )
        self.channel.changed.connect(self._show_channel)
        self.colours = ComboBox(
            label="Tissue in colour",
            choices=[("automatic", "auto"), ("as it is", "all"), ("its nuclear stain", "stain")],
            tooltip="What the model sees of it; automatic: the stain, bright on dark, where it "
            "finds clearly surer nuclei in that",
        )
        self.link = ComboBox(
            label="Link cells",
            choices=[
                ("no", "none"),
                ("along z", "z"),
                ("along t", "t"),
                ("both", "zt"),
                ("in 3D", "3d"),
                ("in 3D, and along t", "3dt"),
            ],
            tooltip="One number for each cell through the planes of a stack, the times of a movie; "
            "in 3D, a stack is looked at from three sides: slower, and better if it is deep",
        )
        self.threshold = _number(
            "as the model says",
            decimals=2,
            label="Cell threshold",
            min=_MODEL_DECIDES,
            max=0.95,
            step=0.05,
            tooltip="Score above which a pixel belongs to a cell",
        )
        self.min_size = _number(
            "as the model says",
            label="Smallest cell (px)",
            min=_MODEL_DECIDES,
            max=100_000,
            tooltip="Cells of fewer pixels are dropped",
        )
        self.resizing = ComboBox(
            label="Size of the image",
            choices=[("automatic", "auto"), ("as it is", "native")],
            tooltip="What the model sees where no diameter is given; automatic: another size where "
            "the cells are clearly surer in that",
        )
        self.diameter = _number(
            "not given",
            label="Cell diameter (px)",
            min=_MODEL_DECIDES,
            max=5_000,
            tooltip="Size of this image's cells; for fine-tuning, where none is given, as they "
            "were segmented, or as measured on the corrected cells",
        )
        self.guess = PushButton(
            text="Guess the diameter", tooltip="Look at the plane in view at several sizes"
        )
        self.device = ComboBox(label="Compute on", choices=["auto", "cpu", "cuda", "mps"])
        self.server = FileEdit(
            label="Server",
            nullable=True,
            filter="*.json",
            tooltip="The file that napari-unet serve wrote: Segment, Fine-tune and Guess work "
            "there; empty: on this computer",
        )
        self.precision = ComboBox(label="Precision", choices=["auto", "float32", "bfloat16"])
        self.ring = SpinBox(
            label="Ring (px)",
            min=0,
            max=100,
            value=8,
            tooltip="Around a corrected cell, this far counts as looked at",
        )
        self.seed = SpinBox(label="Seed", min=0, max=2**31 - 1, value=0)
        self.preview = PushButton(
            text="Show the augmentation", tooltip="Add layers with what fine-tuning draws"
        )
        self.revert = PushButton(
            text="Go back to the earlier model", tooltip="Undo the last fine-tune of this model"
        )
        fields: Container[Widget] = Container(
            widgets=[
                self.scope,
                self.axes,
                self.channel,
                self.colours,
                self.link,
                self.resizing,
                self.diameter,
                self.guess,
                self.threshold,
                self.min_size,
                self.device,
                self.server,
                self.precision,
                self.ring,
                self.seed,
                self.preview,
                self.revert,
            ]
        )
        self.addWidget(fields.native)

    def look_at(self, image: Image | None) -> None:
        """Show how the axes of an image were named."""
        self._image = None
        self.axes.value = "" if image is None else axes_named(image)
        self._image = image
        self._show_channel()

    def check_axes(self) -> None:
        """Raise `ValueError` with a sentence if the text does not fit the image."""
        if self._image is not None:
            name_axes_of(self._image, self.axes.value)

    def _channel(self) -> int | Literal["auto", "stain"] | None:
        if self.channel.value != _AUTOMATIC:
            return int(self.channel.value)
        words: dict[str, Literal["auto", "stain"] | None] = {"auto": "auto", "stain": "stain"}
        return words.get(self.colours.value)

    def use_as_is(self) -> None:
        """Have images seen at their own size, in their colours."""
        self.resizing.value, self.diameter.value = "native", _MODEL_DECIDES
        self.colours.value = "all"

    def _name_axes(self) -> None:
        # A text that does not fit, yet, is told of by what needs the axes.
        with suppress(ValueError):
            self.check_axes()
        self._show_channel()

    def _show_channel(self) -> None:
        """Beside the number of the channel, its name, where the image's file has names."""
        names = () if self._image is None else channel_names(self._image)
        number = int(self.channel.value)
        suffix = f" {names[number]}" if 0 <= number < len(names) else ""
        self.channel.native.setSuffix(suffix)
        known = "".join(f"\n{n} {name}" for n, name in enumerate(names))
        self.channel.native.setToolTip(_CHANNEL_TIP + known)

    def server_file(self) -> Path | None:
        """The file of a server's credentials; None for this computer."""
        chosen = self.server.value
        return chosen if isinstance(chosen, Path) else None

    def predict_config(self) -> PredictConfig:
        """How to segment."""
        return PredictConfig(
            device=self.device.value,
            precision=self.precision.value,
            threshold=self.threshold.value or None,
            min_size_px=int(self.min_size.value) or None,
            diameter_px=float(self.diameter.value)
            or ("auto" if self.resizing.value == "auto" else None),
            link=self.link.value.removeprefix("3d") or "none",
            in_3d=self.link.value.startswith("3d"),
            channel=self._channel(),
        )

    def finetune_config(self, seconds: float | Literal["auto"]) -> FinetuneConfig:
        """How to fine-tune for so many seconds, or "auto"."""
        channel = self._channel()
        return FinetuneConfig(
            seconds=seconds,
            device=self.device.value,
            precision=self.precision.value,
            seed=self.seed.value,
            diameter_px=float(self.diameter.value) or None,
            channel=None if channel == "auto" else channel,
        )


def _number(least: str, decimals: int = 0, step: float = 1, **options: Any) -> FloatSpinBox:
    """A box of numbers that shows the least one as a word, which magicgui's own cannot."""
    box = FloatSpinBox(step=step, value=options["min"], **options)
    box.native.setDecimals(decimals)
    box.native.setSpecialValueText(least)
    return box
