"""Fine-tunes that were cut short: their state is on disk while they learn, and is found again.

    ROOT/NAME/training.state    the fine-tune that makes a version of NAME; at most one

It is a safetensors file like a model, and nothing in it is executed. Its header is the one that the
new version would have: hash of the parent, settings, and the corrections that it learns from. A
second entry of the metadata says what else the run knows. The file is replaced every 20 s, and
deleted when the fine-tune ends. So one that is left was cut short: by a crash, by a power cut, or
because napari was closed.
"""

from __future__ import annotations

import json
import logging
import math
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from napari_unet.core.json_types import JsonMapping
from napari_unet.corrections.collection import collection_of
from napari_unet.io.atomic import may_run, replacing, this_process
from napari_unet.jobs import JobCancelled
from napari_unet.models.header import ModelFileError, ModelHeader, Shapes, open_model
from napari_unet.models.store import ModelStore, ModelVersion, check_name

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.engine.trainer import State
    from napari_unet.learning.run import Run

logger = logging.getLogger(__name__)

_FILE = "training.state"
_KEY, _FORMAT = "napari_unet_training", 1
# Seconds between two saves, and the largest fraction of the time that saving may take: on a slow
# disk there are fewer saves.
_EVERY_S, _SHARE = 20.0, 0.02
# A file that is older than this, in seconds, is of no process that runs. It decides where one
# cannot see whether a process runs: on another computer, on Windows, and after a restart of this
# one, when another process may have the same number.
_SILENT_S = 120.0
# A file may hold so many times as many numbers as the parent has weights (it usually holds 3 or 4
# times as many), and so many more.
_TIMES, _MORE = 10, 1 << 24
# What reading a broken file, or using what it says, can raise.
_UNUSABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError,
    RuntimeError,
)  # fmt: skip
# The files to which this process writes now.
_written: set[Path] = set()


@dataclass(frozen=True)
class CutShort:
    """A fine-tune that was cut short and can go on.

    Attributes
    ----------
    name
        The model that would have got the new version.
    parent
        The version that it began with.
    saved
        When its state was saved last, ISO 8601 in UTC.
    elapsed_s
        Seconds of training until then.
    seconds
        The budget in seconds; None if it was in steps.
    step, steps
        Steps until then, and steps in all; None if these are not known.
    is_open
        Whether it was to go on until it stops improving; then `seconds` is the most.
    """

    name: str
    parent: ModelVersion
    saved: str
    elapsed_s: float
    seconds: float | None
    step: int
    steps: int | None
    is_open: bool


class Saving:
    """Saves the state of a fine-tune while it learns; use it as a context around the work.

    The file is deleted when the work is done, when the user stops it, and when its failure would
    only be repeated: the loss was no number, or not even one save after the first step was made.

    Parameters
    ----------
    store
        The store that gets the new version.
    name
        The model that gets it.

    Attributes
    ----------
    is_left
        Whether a cancel means that the program ends, and not that the user wants no more of it.
    """

    def __init__(self, store: ModelStore, name: str) -> None:
        self.is_left = False
        self._path = _path(store, name)
        self._header: ModelHeader | None = None
        self._parent = ""
        self._due_s, self._saved_step = 0.0, -1

    def __enter__(self) -> Saving:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._header is not None:
            _written.discard(self._path)
        if isinstance(error, JobCancelled):
            ends = not self.is_left
        else:
            ends = isinstance(error, FloatingPointError) or self._saved_step < 1
        # Before its first save, the file is of an earlier fine-tune.
        if error is None or (ends and self._saved_step >= 0):
            self._path.unlink(missing_ok=True)

    def begin(self, header: ModelHeader, parent: ModelVersion) -> None:
        """The fine-tune begins to learn, or goes on.

        Parameters
        ----------
        header
            The header that the new version would have, as far as it is known.
        parent
            The version that it began with.
        """
        self._header, self._parent = header, parent.reference
        _written.add(self._path)

    def save_if_due(self, run: Run) -> None:
        """Save the state if 20 s have passed; call it between two steps."""
        began = time.monotonic()
        if self._header is None or began < self._due_s:
            return
        state = run.state()
        try:
            self._write(self._header, state)
            self._saved_step = int(state.facts["trainer"]["step"])
        except OSError:
            # The disk may be full. The training goes on, and the state before stays.
            logger.info("the state of the fine-tune cannot be saved", exc_info=True)
        took = time.monotonic() - began
        self._due_s = began + took + max(_EVERY_S, took / _SHARE)

    def _write(self, header: ModelHeader, state: State) -> None:
        from safetensors.torch import save

        tensors = {name: value.cpu().contiguous() for name, value in state.tensors.items()}
        facts = {
            "format": _FORMAT,
            "process": this_process(),
            "parent": self._parent,
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": state.facts,
            "checksum": checksum(tensors, state.facts, header),
        }
        content = save(tensors, {**header.to_metadata(), _KEY: json.dumps(facts)})
        with replacing(self._path) as part:
            part.write_bytes(content)


def find_cut_short(store: ModelStore) -> list[CutShort]:
    """Return the fine-tunes that were cut short and can go on, the last one first.

    Those that run in another process, and those that cannot go on, are left out.
    """
    found = []
    for path in store.root.glob(f"*/{_FILE}"):
        with suppress(ValueError):
            found.append(read_cut_short(store, path.parent.name).about)
    return sorted(found, key=lambda each: each.saved, reverse=True)


def discard(store: ModelStore, name: str) -> None:
    """Delete the state of a fine-tune of this model that was cut short, if there is one."""
    _path(store, name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Saved:
    """What the file of a fine-tune that was cut short says; its tensors are not read yet.

    Attributes
    ----------
    about
        The fine-tune.
    header
        The header that the new version would have.
    """

    about: CutShort
    header: ModelHeader
    _path: Path
    _facts: JsonMapping
    _checksum: int

    def restore(self, run: Run) -> None:
        """Have a run of the same lesson go on where this one was.

        Raises
        ------
        ValueError
            If the file is broken.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        from napari_unet.engine.trainer import State

        try:
            tensors = load(self._path.read_bytes())
            for name, value in tensors.items():
                if not torch.isfinite(value).all():
                    raise ValueError(f"{name} holds NaN or inf")
            if checksum(tensors, self._facts, self.header) != self._checksum:
                raise ValueError("it was changed")
            run.restore(State(tensors, self._facts))
        except (*_UNUSABLE, SafetensorError) as error:
            raise _broken(self._path) from error


def read_cut_short(store: ModelStore, name: str) -> Saved:
    """Read the state of a fine-tune of this model, and see that it can go on.

    Raises
    ------
    ValueError
        If there is none, it still runs, its file is broken, or its parent or its corrections are
        not what they were.
    """
    path = _path(store, name)
    if not path.exists():
        others = ", ".join(sorted(other.parent.name for other in store.root.glob(f"*/{_FILE}")))
        hint = f"choose one of: {others}" if others else "start a new one"
        raise ValueError(f"no fine-tune of {name} was cut short; {hint}")
    try:
        with open_model(path) as (_, header, shapes, metadata):
            facts = json.loads(metadata[_KEY], parse_constant=_refuse)
        if facts["format"] != _FORMAT:
            raise ValueError("another format")
        age_s = time.time() - path.stat().st_mtime
        parent, process = str(facts["parent"]), str(facts["process"])
        run, checked = facts["run"], int(facts["checksum"])
        saved = datetime.fromisoformat(facts["saved"])
        trainer = run["trainer"]
        seconds, steps = trainer["seconds"], trainer["planned"]
        if seconds is None and steps is None:
            raise ValueError("it has no end")
        is_open = header.settings["seconds"] == "auto"
        about = partial(
            CutShort,
            name=name,
            saved=saved.astimezone(UTC).isoformat(timespec="seconds"),
            elapsed_s=float(trainer["elapsed_s"]),
            seconds=None if seconds is None else float(seconds),
            step=int(trainer["step"]),
            steps=None if steps is None or is_open else int(steps),
            is_open=is_open,
        )
    except _UNUSABLE as error:
        raise _broken(path) from error
    elsewhere = process != this_process() and may_run(process) and age_s < _SILENT_S
    if elsewhere or path in _written:
        raise ValueError(f"the fine-tune of {name} is still running; wait for its end")
    found = _parent(store, header, name, parent)
    if _count(shapes) > _TIMES * _count(_shapes(found.path)) + _MORE:
        raise _broken(path)
    entries = {entry.key: entry.sha256 for entry in collection_of(store, name).entries()}
    if entries != header.corrections:
        raise ValueError(
            f"the corrections of {name} were changed since its fine-tune was cut short; "
            "fine-tune again"
        )
    if _is_done(store, name, header):
        path.unlink(missing_ok=True)
        raise ValueError(f"the fine-tune of {name} was finished; start a new one")
    return Saved(about(parent=found), header, path, run, checked)


def checksum(
    tensors: Mapping[str, Tensor], facts: Mapping[str, object], header: ModelHeader
) -> int:
    """Return a number that changes with any bit of a state, for example on a failing disk."""
    found = zlib.crc32(json.dumps([facts, header.to_metadata()]).encode())
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].numpy().tobytes(), found)
    return found


def _parent(store: ModelStore, header: ModelHeader, name: str, reference: str) -> ModelVersion:
    own, at, number = reference.partition("@")
    if at and own == header.name:
        # The model may have got another name since.
        reference = f"{name}@{number}"
    with suppress(ModelFileError, OSError):
        found = store.find(reference)
        if found.sha256() == header.parent:
            return found
    raise ValueError(
        f"the fine-tune of {name} began with {reference}, which is not here any more; fine-tune "
        "again with another model"
    )


def _is_done(store: ModelStore, name: str, header: ModelHeader) -> bool:
    """Return whether the version was added, and the program ended before it deleted the file."""
    return any(
        (version.header.parent, version.header.corrections) == (header.parent, header.corrections)
        and version.header.created > header.created
        for version in store.versions(name)
    )


def _shapes(path: Path) -> Shapes:
    with open_model(path) as (_, _, shapes, _):
        return shapes


def _count(shapes: Shapes) -> int:
    """Return the number of all numbers in arrays of these shapes."""
    return sum(map(math.prod, shapes.values()))


def _path(store: ModelStore, name: str) -> Path:
    check_name(name)
    return store.root.absolute() / name / _FILE


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _broken(path: Path) -> ValueError:
    return ValueError(
        f"the state of the fine-tune of {path.parent.name} ({path}) cannot be used; fine-tune again"
    )
