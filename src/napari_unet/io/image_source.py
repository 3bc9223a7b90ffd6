"""What an image is: its axes, sizes, and whether its channels are colours or separate stains.

Every reader of files ends here, so that each format and each command decides alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import label_axes
from napari_unet.core.checks import Unfit, check_channels

# Micrometres in a unit of length, and seconds in one of time, as programs write them.
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
_TIMES: Mapping[str, float] = {
    **dict.fromkeys(("us", "µs", "\u03bcs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_COUNTED = {"T": ("time", "times"), "Z": ("plane", "planes"), "C": ("channel", "channels")}


def in_um(size: object, unit: object) -> float | None:
    """A length in micrometres; None if it is no positive number, or the unit is unknown."""
    return _in(_LENGTHS, size, unit)


def in_s(time: object, unit: object) -> float | None:
    """A time in seconds; None if it is no positive number, or the unit is unknown."""
    return _in(_TIMES, time, unit)


def choose_image(
    names: Sequence[str], plane_px: Mapping[int, int], asked: int | None
) -> tuple[int, tuple[str, ...]]:
    """Number of the image to take from a file that may hold several, and what is to be said.

    Parameters
    ----------
    names
        Of all images in it; empty where it has none.
    plane_px
        How many pixels a plane has, of each image that may be taken unasked.
    asked
        Which one is asked for, from 0; None takes the largest.

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
    """An image that was read.

    Attributes
    ----------
    data
        The pixels, any dtype; of a zarr store or a microscope's file, an array that reads them
        when it is indexed.
    axes
        One letter of TZCYX for each axis.
    is_colour
        Whether the channels are the colours of a photograph (red, green, blue, perhaps alpha);
        else each is an image of its own.
    pixel_size_um
        Along Y and X, in micrometres; None if the file does not say.
    z_step_um
        From plane to plane along Z; None if the file does not say.
    interval_s
        From time to time along T; None if the file does not say.
    channel_names
        One for each channel; empty if the file does not say.
    notes
        What was assumed while reading, a sentence each.
    """

    data: LazyArray
    axes: str
    is_colour: bool = False
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    interval_s: float | None = None
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def label_axes(self) -> str:
        """Axes of its labels."""
        return label_axes(self.axes)

    @property
    def anisotropy(self) -> float | None:
        """Distance of the planes over the size of a pixel; None if the file does not say."""
        if self.pixel_size_um is None or self.z_step_um is None:
            return None
        return self.z_step_um / math.sqrt(math.prod(self.pixel_size_um))

    @property
    def scale(self) -> tuple[tuple[float, ...], str]:
        """Size of a pixel along each of these, and the unit: um, or px where not all is known."""
        axes = self.label_axes
        if self.pixel_size_um is None or ("Z" in axes and self.z_step_um is None):
            return (1.0,) * len(axes), "px"
        y, x = self.pixel_size_um
        sizes = {"T": 1.0, "Z": self.z_step_um or 1.0, "Y": y, "X": x}
        return tuple(sizes[axis] for axis in axes), "um"

    def check_channels(self, channel: object, n_model: int | None = None) -> None:
        """See that it is clear what a model sees of the channels.

        Parameters
        ----------
        channel
            The number of the one that was chosen; anything else chooses none.
        n_model
            How many channels the model takes.

        Raises
        ------
        Undecided
            If there are several separate channels and none was chosen.
        """
        if not isinstance(channel, int) and not self.is_colour:
            count = self.data.shape[self.axes.index("C")] if "C" in self.axes else 1
            check_channels(count, n_model, self.channel_names)

    def words(self, channel: object = None) -> str:
        """As what it was read, in one sentence; empty where there was nothing to decide.

        `channel` is the one that is used; None if all are.
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
