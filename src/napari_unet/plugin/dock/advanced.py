"""Settings of the dock that most people never touch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, get_args

from magicgui.widgets import (
    ComboBox,
    Container,
    FloatSpinBox,
    LineEdit,
    PushButton,
    SpinBox,
)
from magicgui.widgets.bases import Widget
from napari.layers import Image
from superqt import QCollapsible

from napari_unet.config import FinetuneConfig, Link, PredictConfig
from napari_unet.plugin.dock.server_choice import ServerChoice
from napari_unet.plugin.dock.widgets import shrink
from napari_unet.plugin.jobs.scope import ALL, PLANE, SCOPES, STACK, VIEW
from napari_unet.plugin.viewer.layers import axes_named, axes_of, channel_names, name_axes_of
from napari_unet.serving.client.known import KnownServers

# The model file decides where a setting stands at this value.
_MODEL_DECIDES = 0
_AUTOMATIC = -1
_CHANNEL_TIP = (
    "Which one the model sees, from 0; automatic: all if their number suits the model, else the "
    "one in view"
)


_LINKS = {
    "Z": (("separate planes", "none"), ("connect planes", "z"), ("full 3D", "3d")),
    "T": (("separate times", "none"), ("track over time", "t")),
    "TZ": (
        ("separate planes", "none"),
        ("connect planes", "z"),
        ("track over time", "t"),
        ("connect planes, track", "zt"),
        ("full 3D", "3d"),
        ("full 3D, track", "3dt"),
    ),
}


class Advanced(QCollapsible):
    """The settings, folded away at first.

    `scope`, `link` and `guess` are shown in the step "Find cells".

    Parameters
    ----------
    known
        The servers that the user has named.
    """

    def __init__(self, known: KnownServers) -> None:
        super().__init__("More settings")
        if (layout := self.layout()) is not None:
            layout.setContentsMargins(0, 0, 0, 0)
        self._image: Image | None = None
        # Whether the user chose how cells are linked, and for which axes that was offered.
        self._link_is_chosen = self._is_offering = False
        self._offered: str | None = None
        self.scope = ComboBox(
            label="Apply to",
            choices=self._scopes,
            tooltip="What Segment looks at; whole z-stack: all planes of the time on screen",
        )
        self.axes = LineEdit(
            label="Axes",
            tooltip="The same as 'read as' above, in letters: one of TZCYX for each axis of this "
            "image; empty: automatic",
        )
        self.axes.changed.connect(self._name_axes)
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
            label="Stack",
            choices=self._links,
            tooltip="For a whole z-stack or movie: connected, a cell has one number on all planes "
            "and at all times; full 3D looks at the stack from three sides: slower, and better if "
            "cells lie above each other",
        )
        self.link.changed.connect(self._on_link)
        self.threshold = _number(
            "default",
            decimals=2,
            label="Cell threshold",
            min=_MODEL_DECIDES,
            max=0.95,
            step=0.05,
            tooltip="Score above which a pixel belongs to a cell: lower finds more, larger cells",
        )
        self.min_size = _number(
            "default",
            label="Smallest cell (px)",
            min=_MODEL_DECIDES,
            max=100_000,
            tooltip="Cells of fewer pixels are dropped",
        )
        self.resizing = ComboBox(
            label="Image size",
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
            text="Estimate size",
            tooltip="Cells missed or in pieces? Measure how wide the cells on screen are, then "
            "Segment again",
        )
        self.device = ComboBox(
            label="Compute on",
            choices=["auto", "cpu", "cuda", "mps"],
            tooltip="The processor (cpu) or a graphics card (cuda, mps); auto: the fastest",
        )
        self.server = ServerChoice(known)
        self.precision = ComboBox(
            label="Precision",
            choices=["auto", "float32", "bfloat16"],
            tooltip="Number format of the computation; auto: the fastest that is good enough",
        )
        self.ring = SpinBox(
            label="Margin (px)",
            min=0,
            max=100,
            value=8,
            tooltip="Margin learnt around each correction, in pixels",
        )
        self.seed = SpinBox(
            label="Seed",
            min=0,
            max=2**31 - 1,
            value=0,
            tooltip="Start of the random numbers of a fine-tune; the same seed repeats it",
        )
        self.preview = PushButton(
            text="Preview training examples",
            tooltip="Add layers that show what the model is trained on: your corrections, deformed",
        )
        self.new_type = PushButton(
            text="Add a cell type…", tooltip="Teach a further type of cells, under its own name"
        )
        fields: Container[Widget] = Container(
            widgets=[
                self.axes,
                self.channel,
                self.colours,
                self.resizing,
                self.diameter,
                self.threshold,
                self.min_size,
                self.device,
                self.server.box,
                self.precision,
                self.ring,
                self.seed,
                self.new_type,
                self.preview,
            ]
        )
        self._fields = [self.scope, *fields]
        for box in (self.scope, self.link):
            shrink(box.native)
        self._defaults = [
            (part, part.value)
            for part in self._fields
            if hasattr(part, "value") and part is not self.server.box
        ]
        self.addWidget(fields.native)
        self.toggleButton().setToolTip("Settings that most people never touch")

    def look_at(self, image: Image | None) -> None:
        """Show how the axes of an image were named."""
        self._image = None
        self.axes.value = "" if image is None else axes_named(image)
        self._image = image
        self._show_channel()
        self._offer_links()

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
        self._offer_links()

    def restore_defaults(self) -> None:
        """Set all fields as they were at first, the names of this image's axes included."""
        for part, value in self._defaults:
            part.value = value
        self.server.choose("")
        self._offered = None
        self._offer_links()

    @property
    def letters(self) -> str:
        """Axes along which the cells of this image can be linked: some of T and Z."""
        axes = "" if self._image is None else axes_of(self._image)
        return "".join(letter for letter in "TZ" if letter in axes)

    def _scopes(self, widget: object) -> list[tuple[str, str]]:
        image = self._image
        if image is None:
            return [(scope, scope) for scope in SCOPES]
        if image.ndim == 2:
            return [("whole image", PLANE), (VIEW, VIEW)]
        no_stack = () if "Z" in axes_of(image) else (STACK,)
        return [(scope, scope) for scope in SCOPES if scope not in no_stack]

    def _links(self, widget: object) -> tuple[tuple[str, str], ...]:
        return _LINKS.get(self.letters, (("no", "none"),))

    def _offer_links(self) -> None:
        """Offer what suits the axes; at first, cells are connected along all of them."""
        offered = self.letters
        if offered != self._offered:
            self._offered, self._is_offering = offered, True
            self.link.reset_choices()
            self.link.value = {"": "none", "Z": "z", "T": "t", "TZ": "zt"}[offered]
            self._link_is_chosen = self._is_offering = False
        self.scope.reset_choices()

    def _on_link(self) -> None:
        self._link_is_chosen = not self._is_offering

    def _show_channel(self) -> None:
        """Beside the number of the channel, its name, where the image's file has names."""
        names = () if self._image is None else channel_names(self._image)
        number = int(self.channel.value)
        suffix = f" {names[number]}" if 0 <= number < len(names) else ""
        self.channel.native.setSuffix(suffix)
        known = "".join(f"\n{n} {name}" for n, name in enumerate(names))
        self.channel.native.setToolTip(_CHANNEL_TIP + known)

    def files_config(self) -> PredictConfig:
        """How to segment files, which may have other axes than the image on screen."""
        config = self.predict_config()
        return config if self._link_is_chosen else replace(config, link="none", in_3d=False)

    def folder_config(self) -> PredictConfig:
        """How to segment the images of a folder: each as a whole."""
        return self.predict_config(is_whole=True)

    def predict_config(self, *, is_whole: bool = False) -> PredictConfig:
        """How to segment the chosen image, as a whole or as far as the user wants that."""
        links: dict[str, Link] = {link: link for link in get_args(Link)}
        # One plane cannot be linked, but can be looked at in 3D.
        is_open = is_whole or self._link_is_chosen or self.scope.value in (STACK, ALL)
        link: str = self.link.value if is_open else "none"
        return PredictConfig(
            device=self.device.value,
            precision=self.precision.value,
            threshold=self.threshold.value or None,
            min_size_px=int(self.min_size.value) or None,
            diameter_px=float(self.diameter.value)
            or ("auto" if self.resizing.value == "auto" else None),
            link=links.get(link.removeprefix("3d"), "none"),
            in_3d=link.startswith("3d"),
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
            threshold=self.threshold.value or None,
            min_size_px=int(self.min_size.value) or None,
            channel=None if channel == "auto" else channel,
        )


def _number(least: str, decimals: int = 0, step: float = 1, **options: Any) -> FloatSpinBox:
    """A box of numbers that shows the least one as a word, which magicgui's own cannot."""
    box = FloatSpinBox(step=step, value=options["min"], **options)
    box.native.setDecimals(decimals)
    box.native.setSpecialValueText(least)
    return box
