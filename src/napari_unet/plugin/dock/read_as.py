"""What each axis of an image is taken for, and which of its channels is segmented."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import permutations

from napari.layers import Image
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QWidget

from napari_unet.core.axes import check_axes
from napari_unet.core.checks import size_words
from napari_unet.plugin.dock.widgets import shrink
from napari_unet.plugin.viewer.layers import channel_names, finest, image_from_layer

AUTOMATIC = -1
_UNCLEAR = "choose…"
_KINDS = {
    "": "grey image",
    "Z": "z-stack",
    "T": "movie",
    "C": "channels",
    "TZ": "movie of z-stacks",
    "CZ": "z-stack, channels",
    "CT": "movie, channels",
    "CTZ": "movie of z-stacks, channels",
}
_TIP = "What the axes of this image are taken for; choose another one if it is wrong"


def words_for(axes: str) -> str:
    """What an image of these axes is, in words, such as "z-stack"."""
    if axes.endswith("YXC"):
        before = axes.removesuffix("YXC")
        return f"colour {_KINDS[before]}" if before else "colour image"
    before = axes.removesuffix("YX")
    kind = _KINDS.get("".join(sorted(before)), axes)
    # Where channels may lie before or after another axis, the letters tell.
    return f"{kind} ({axes})" if "C" in before and len(before) > 1 else kind


def choices_for(image: Image) -> list[str]:
    """Axes that an image may have, as letters."""
    shape, leading = tuple(finest(image).shape), image.ndim - 2
    tail = "YXC" if image.rgb else "YX"
    letters = "TZ" if image.rgb else "TZC"
    # Of a movie of stacks, time is the slower axis.
    orders = ("".join(order) for order in permutations(letters, leading))
    found = [f"{order}{tail}" for order in orders if "ZT" not in order.replace("C", "")]
    if not image.rgb and shape[-1] in (3, 4) and leading in (1, 2):
        found += [f"{order}YXC" for order in (("",) if leading == 1 else ("Z", "T"))]
    first = "ZTC"
    return sorted(found, key=lambda axes: (axes.endswith("C"), first.find(axes[0])))


class ReadAs(QWidget):
    """The size of the image, and a box that says what its axes are taken for.

    Parameters
    ----------
    name
        Called with the letters that the user chose.

    Attributes
    ----------
    fixed
        Says both in place of this row, where there is nothing to choose.
    """

    def __init__(self, name: Callable[[str], None]) -> None:
        super().__init__()
        self._name = name
        self.box = QComboBox()
        shrink(self.box)
        self.box.activated.connect(self._on_chosen)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.label, self.fixed = QLabel(), QLabel()
        layout.addWidget(self.label)
        layout.addWidget(self.box, 1)

    @property
    def axes(self) -> str:
        """The letters of the entry that is shown; empty if the axes are unclear."""
        return str(self.box.currentData() or "")

    def choose(self, axes: str) -> None:
        """Choose an entry as a click would."""
        self.box.setCurrentIndex(self.box.findData(axes))
        self._on_chosen()

    def look_at(self, image: Image | None) -> None:
        """Show what an image is read as."""
        self.box.clear()
        for part in (self, self.fixed):
            part.hide()
        if image is None:
            return
        known, choices = "", []
        with suppress(ValueError):
            known = image_from_layer(image).axes
        for axes in choices_for(image):
            with suppress(ValueError):
                choices.append(check_axes(axes, finest(image).shape))
        if known not in choices:
            choices.insert(0, known)
        for axes in choices:
            self.box.addItem(words_for(axes) if axes else _UNCLEAR, axes)
        self.box.setCurrentIndex(choices.index(known))
        shape = finest(image).shape
        size = size_words(shape[:-1] if image.rgb else shape)
        self.label.setText(f"{size}, read as")
        self.fixed.setText(f"{size}, {self.box.currentText().removesuffix(' image')}")
        self.box.setToolTip(f"{_TIP}\n{size}, axes {known or 'unclear'}")
        (self if len(choices) > 1 else self.fixed).show()

    def _on_chosen(self) -> None:
        if self.axes:
            self._name(self.axes)


class ChannelBox(QWidget):
    """The channels of an image, by their names where the file has some; hidden without channels.

    Parameters
    ----------
    choose
        Called with the number of the channel that the user chose, or `AUTOMATIC`.
    """

    def __init__(self, choose: Callable[[int], None]) -> None:
        super().__init__()
        self._choose, self.box = choose, QComboBox()
        self.box.setToolTip(
            "Which channel shows the cells; automatic: all if the model takes so many, else the "
            "one on screen"
        )
        self.box.activated.connect(lambda: self._choose(int(self.box.currentData())))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Channel"))
        layout.addWidget(self.box, 1)
        self.hide()

    def choose(self, channel: int) -> None:
        """Choose a channel as a click would."""
        self.show_chosen(channel)
        self._choose(channel)

    def look_at(self, image: Image | None, axes: str, chosen: int) -> None:
        """Offer the channels of an image."""
        self.box.clear()
        has_channels = image is not None and not image.rgb and "C" in axes
        self.setVisible(has_channels)
        if image is None or not has_channels:
            return
        count = int(finest(image).shape[axes.index("C")])
        names = channel_names(image)
        self.box.addItem("automatic", AUTOMATIC)
        for number in range(count):
            name = names[number] if names else ""
            self.box.addItem(f"{number}  {name}".strip(), number)
        self.show_chosen(chosen)

    def show_chosen(self, channel: int) -> None:
        """Show which channel is chosen."""
        self.box.setCurrentIndex(self.box.findData(channel))
