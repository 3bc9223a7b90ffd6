"""The json file of a project: what is known of each image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from napari_unet.config import Channel
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import replacing

# Name of the json file in the folder of a project.
FILE = "napari-unet-project.json"
_FORMAT, _VERSION = "napari-unet project", 1
# How far an image is, from the least to the most.
NEW, SEGMENTED, CORRECTED, DONE = STATES = ("new", "segmented", "corrected", "done")
# The orders in which images are shown. Where nobody chose one, it is that of names until a model
# learnt from the project or segmented its rest, and then that of doubt.
NOT_CHOSEN, BY_NAME, BY_DOUBT = SORTS = ("", "name", "doubt")


@dataclass(frozen=True)
class ImageEntry:
    """What is known of an image.

    Attributes
    ----------
    labels
        Path of its labels from the folder of the project, with slashes.
    state
        One of `STATES`.
    model
        The model that found its cells, as NAME@VERSION; empty if none did.
    n_cells
        Number of cells that the model found.
    n_corrected
        Number of cells that were corrected, and of places that were marked as correct.
    doubt
        How unsure the model was, in [0, 1]; None if that is not known.
    channel
        The channel that the model saw, "stain", or None for all; "auto" if that is not known.
    held_out
        Whether it judges models and never teaches.
    taught
        Names of the models that learnt from its corrections.
    is_changed
        Whether something was corrected that no model has learnt yet.
    stamp
        Size and time of the file, when its fingerprint was taken; empty before.
    fingerprint
        Tells its pixels from others; empty before it was segmented or corrected.
    """

    labels: str
    state: str = NEW
    model: str = ""
    n_cells: int = 0
    n_corrected: int = 0
    doubt: float | None = None
    channel: Channel | Literal["auto"] = "auto"
    held_out: bool = False
    taught: tuple[str, ...] = ()
    is_changed: bool = False
    stamp: str = ""
    fingerprint: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether nothing but the user may change its labels."""
        return self.state in (CORRECTED, DONE)


@dataclass(frozen=True)
class Score:
    """A point of the curve: how a model did on the held-out images.

    Attributes
    ----------
    model
        NAME@VERSION.
    n_corrected
        Cells that had been corrected by then on the images that teach.
    ap
        AP at an IoU of 0.5 over all cells of the images.
    images
        Names of the held-out images.
    """

    model: str
    n_corrected: int
    ap: float
    images: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of the json file.

    Attributes
    ----------
    images
        By the path of the image from the folder, with slashes.
    labels
        The folder of new labels, from the folder of the project; "." for beside the images.
    listed
        Whether the images were chosen one by one: others in the folder are no part of the project.
    sort
        One of `SORTS`.
    current
        The image that was open last; empty if none was.
    model
        The model that was chosen last, NAME or NAME@VERSION; empty if none was.
    read_as
        Axes that the user gave to images, by those that their files have.
    curve
        The scores on held-out images, the oldest first.
    """

    images: Mapping[str, ImageEntry] = field(default_factory=dict)
    labels: str = "labels"
    listed: bool = False
    sort: str = NOT_CHOSEN
    current: str = ""
    model: str = ""
    read_as: Mapping[str, str] = field(default_factory=dict)
    curve: tuple[Score, ...] = ()


def read_manifest(path: Path) -> Manifest | None:
    """Read the json file of a project; None if there is none.

    Raises
    ------
    ValueError
        If it is broken, or a newer version of this program wrote it.
    OSError
        If the file system refuses it.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _broken(path, "it is no text") from error
    try:
        said = json.loads(text)
        name, _, version = str(said["format"]).rpartition(" ")
        if name != _FORMAT or not version.isdigit():
            raise ValueError("it is no project of napari-unet")
        if int(version) <= _VERSION:
            return _from(said)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, str(error) or type(error).__name__) from error
    raise ValueError(
        f"{path} was written by a newer version of napari-unet; update napari-unet to open it "
        "(nothing was changed)"
    )


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the json file; it appears whole, or the old one stays.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    said = {"format": f"{_FORMAT} {_VERSION}", **asdict(manifest)}
    with replacing(path) as part:
        part.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _from(said: JsonObject) -> Manifest:
    images = {name: _entry(facts) for name, facts in said["images"].items()}
    curve = tuple(
        Score(
            str(point["model"]),
            int(point["n_corrected"]),
            float(point["ap"]),
            tuple(map(str, point["images"])),
        )
        for point in said["curve"]
    )
    if said["sort"] not in SORTS:
        raise ValueError(f"the order {said['sort']!r} is unknown")
    return Manifest(
        images,
        str(said["labels"]),
        bool(said["listed"]),
        said["sort"],
        str(said["current"]),
        str(said.get("model", "")),
        {str(file): str(axes) for file, axes in said.get("read_as", {}).items()},
        curve,
    )


def _entry(facts: JsonObject) -> ImageEntry:
    known = {each.name for each in fields(ImageEntry)}
    given = {name: value for name, value in facts.items() if name in known}
    entry = ImageEntry(**given | {"taught": tuple(map(str, given.get("taught", ())))})
    doubt_is_number = entry.doubt is None or isinstance(entry.doubt, int | float)
    texts = (entry.labels, entry.model, entry.stamp, entry.fingerprint)
    whole = isinstance(entry.n_cells, int) and isinstance(entry.n_corrected, int)
    whole = whole and (isinstance(entry.channel, int) or entry.channel in (None, "stain", "auto"))
    if entry.state not in STATES or not (doubt_is_number and whole):
        raise ValueError(f"the state of an image cannot be read: {facts}")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"what is said of an image cannot be read: {facts}")
    return entry


def _broken(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} cannot be read ({why}); bring back a copy of it, or move it away to begin anew: "
        "labels and corrections stay in their folders (nothing was changed)"
    )
