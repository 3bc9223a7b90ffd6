"""What a file says about an image: its axes, its sizes, and whether its channels are colours.

Every reader of files returns an `ImageSource`, so all formats are treated in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import label_axes
from napari_unet.core.checks import Unfit, check_channels

# Units of length, as programs write them, in micrometres.
_LENGTHS: Mapping[str, float] = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "a", "angstrom", "ångström", "\u212b"), 1e-4),
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers", "nanometres"), 1e-3),
    **dict.fromkeys(("um", "µm", "\u03bcm", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("micrometers", "micrometres", "\\u00b5m", "\\u03bcm"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "centimeters", "centimetres"), 1e4),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1e6),
    **dict.fromkeys(("in", "inch", "inches", '"'), 25400.0),
}
# Units of time, as programs write them, in seconds.
_TIMES: Mapping[str, float] = {
    **dict.fromkeys(("us", "µs", "\u03bcs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
# The word for one, and for several, of what lies along an axis.
_COUNTED = {"T": ("time", "times"), "Z": ("plane", "planes"), "C": ("channel", "channels")}


def in_um(size: object, unit: object) -> float | None:
    """Return a length in micrometres; None if it is not above 0, or the unit is unknown."""
    return _in(_LENGTHS, size, unit)


def in_s(time: object, unit: object) -> float | None:
    """Return a time in seconds; None if it is not above 0, or the unit is unknown."""
    return _in(_TIMES, time, unit)


def choose_image(
    names: Sequence[str], plane_px: Mapping[int, int], asked: int | None
) -> tuple[int, tuple[str, ...]]:
    """Return the number of the image to take from a file, and notes for the user.

    Parameters
    ----------
    names
        Names of all images in the file; "" for an image without a name.
    plane_px
        Number of pixels of a plane, for each image that may be taken by default.
    asked
        The image that the user asks for, from 0; None takes the largest one.

    Raises
    ------
    Unfit
        If there is no such image.
    """
    if asked is not None:
        if asked >= len(names):
            raise Unfit(
                f"image {asked} is asked for and there are {len(names)}; give --series 0"
                + (f" to {len(names) - 1}" if len(names) > 1 else "")
            )
        return asked, ()
    number = max(plane_px, key=lambda n: (plane_px[n], -n))
    if len(plane_px) == 1:
        return number, ()
    name = f" ({names[number]})" if names[number] else ""
    why = "the largest" if len(set(plane_px.values())) > 1 else "the first"
    return number, (
        f"the file holds {len(plane_px)} images and {why}, {number}{name}, was taken; "
        f"--series N takes another, one of {', '.join(map(str, plane_px))}",
    )


@dataclass(frozen=True)
class ImageSource:
    """An image that was read from a file.

    Attributes
    ----------
    data
        The pixels, of any dtype. For a zarr store or a file of a microscope it is an array that
        reads them when it is indexed.
    axes
        One letter of TZCYX for each axis.
    is_colour
        Whether the channels are the colours of a photograph (red, green, blue, perhaps alpha).
        Otherwise each channel is a separate image.
    pixel_size_um
        Size of a pixel along Y and X, in micrometres; None if the file does not say.
    z_step_um
        Distance between planes along Z, in micrometres; None if the file does not say.
    interval_s
        Time between frames along T, in seconds; None if the file does not say.
    channel_names
        One name for each channel; empty if the file does not say.
    notes
        What was assumed while reading, one sentence each.
    file_axes
        The axes by the file, where the user gave others; else empty.
    """

    data: LazyArray
    axes: str
    is_colour: bool = False
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    interval_s: float | None = None
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    file_axes: str = ""

    @property
    def label_axes(self) -> str:
        """The axes of labels of this image."""
        return label_axes(self.axes)

    @property
    def anisotropy(self) -> float | None:
        """Distance between planes divided by the size of a pixel; None if the file does not say."""
        if self.pixel_size_um is None or self.z_step_um is None:
            return None
        return self.z_step_um / math.sqrt(math.prod(self.pixel_size_um))

    @property
    def scale(self) -> tuple[tuple[float, ...], str]:
        """Size of a pixel along each axis of the labels, and the unit: um, or px if unknown."""
        axes = self.label_axes
        if self.pixel_size_um is None or ("Z" in axes and self.z_step_um is None):
            return (1.0,) * len(axes), "px"
        y, x = self.pixel_size_um
        sizes = {"T": 1.0, "Z": self.z_step_um or 1.0, "Y": y, "X": x}
        return tuple(sizes[axis] for axis in axes), "um"

    def named(self, read_as: Mapping[str, str]) -> ImageSource:
        """Return the image with other axes, where `read_as` has some for those that it has."""
        axes = read_as.get(self.axes, self.axes)
        return replace(self, axes=axes, file_axes=self.file_axes or self.axes)

    def check_channels(self, channel: object, n_model: int | None = None) -> None:
        """Raise an error if the user has to choose one of the channels.

        Parameters
        ----------
        channel
            Number of the channel that was chosen; with anything else none was chosen.
        n_model
            Number of channels that the model takes.

        Raises
        ------
        Undecided
            If there are several separate channels and none was chosen.
        """
        if not isinstance(channel, int) and not self.is_colour:
            count = self.data.shape[self.axes.index("C")] if "C" in self.axes else 1
            check_channels(count, n_model, self.channel_names)

    def words(self, channel: object = None) -> str:
        """Return a sentence that says how the file was read; "" if nothing had to be decided.

        `channel` is the channel that is used; None if all are used.
        """
        if self.axes == "YX" and not self.notes:
            return ""
        sizes = dict(zip(self.axes, self.data.shape, strict=True))
        counts = [
            f"{sizes[axis]} {names[sizes[axis] != 1]}"
            for axis, names in _COUNTED.items()
            if axis in sizes and not (axis == "C" and self.is_colour)
        ]
        if self.is_colour:
            counts.append("a colour picture")
        shape = f" ({', '.join(self.axes)})"
        size = ""
        if self.pixel_size_um is not None:
            size = f", {_number(*self.pixel_size_um)} um"
            size += f" and {_number(self.z_step_um)} um along Z" if self.z_step_um else ""
        used = ""
        if isinstance(channel, int) and "C" in self.axes:
            name = ""
            if channel < len(self.channel_names):
                name = f" ({self.channel_names[channel]})"
            used = f"; channel {channel}{name} used"
        read = f"read as {', '.join(counts) or 'one plane'}{shape}{size}{used}"
        return "; ".join([read, *self.notes])


def _in(units: Mapping[str, float], size: object, unit: object) -> float | None:
    factor = units.get(str(unit).strip().lower())
    try:
        value = float(size)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if factor is None or not 0 < value < math.inf:
        return None
    # A size such as 250 nm becomes 0.25 um, not 0.25000000000000006.
    return float(f"{value * factor:.12g}")


def _number(*sizes: float) -> str:
    return " x ".join(dict.fromkeys(f"{size:.4g}" for size in sizes))
