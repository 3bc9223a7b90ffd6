"""Which version of a model is used: what was learnt last, what was refused, the way back."""

from __future__ import annotations

from napari_unet.learning.finetune import Improvement
from napari_unet.learning.validation import Check
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.projects.folder import few


class Versions:
    """Remembers the last fine-tune.

    Parameters
    ----------
    store
        The models.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._last: Improvement | None = None
        self._refused: ModelVersion | None = None

    @property
    def refused(self) -> ModelVersion | None:
        """The version that the last check refused, unless it is used all the same."""
        return self._refused

    @property
    def wants_time(self) -> bool:
        """Whether a version was refused that may be better after a longer training."""
        return (
            self._refused is not None and self._last is not None and self._last.verdict.wants_time
        )

    @property
    def can_go_back(self) -> bool:
        """Whether the last fine-tune gave a version that is used, and has a parent."""
        return self._last is not None and self._last.parent is not None and not self._refused

    def learnt(self, done: Improvement, image: str) -> str:
        """Take note of a fine-tune from an image of this name; returns what is to be told."""
        self._last = done
        self._refused = None if done.verdict.accepted else done.model
        numbers, slips = _numbers(done), _slips(done, image)
        if self._refused is not None:
            return f"The old model stays in use: {done.verdict.why}{slips}"
        return f"{_new(done.model)} is ready: {numbers or done.verdict.why}{slips}"

    @property
    def before(self) -> str:
        """Name of the model before the last fine-tune; empty without one."""
        parent = None if self._last is None else self._last.parent
        if parent is None or self._last is None:
            return ""
        same = parent.name == self._last.model.name
        return f"version {parent.version}" if same else parent.name

    def is_about(self, name: str) -> bool:
        """Whether the last fine-tune began with, or made, a version of this model."""
        last = self._last
        if last is None:
            return False
        return name in (last.model.name, *([last.parent.name] if last.parent else []))

    @property
    def scores(self) -> str:
        """What the last fine-tune was tested on, and how it did; empty if nothing was."""
        return "" if self._last is None else _numbers(self._last)

    def forget(self) -> None:
        """A new fine-tune begins."""
        self._last = self._refused = None

    def use_refused(self) -> ModelVersion:
        """Let the model's name stand for the version that was refused.

        Raises
        ------
        ValueError
            If none was.
        """
        if self._refused is None:
            raise ValueError("there is no new version to use; fine-tune first")
        used, self._refused = self._refused, None
        self._store.activate(used)
        return used

    def go_back(self, name: str) -> tuple[ModelVersion, str]:
        """Go back from what a model's name stands for, or a version, to its parent.

        A parent that was refused is passed over, for its own parent.

        Returns
        -------
        parent
            The version to use.
        choice
            What to choose for it: its name, if that stands for it now, else NAME@VERSION.

        Raises
        ------
        ValueError
            If it has none here.
        """
        model = self._store.find(name)
        last = self._last
        known = last.parent if last is not None and last.model.path == model.path else None
        parent = self._store.ancestor(model) if known is None or known.refused else known
        if parent is None:
            raise ValueError(f"{model.reference} has no earlier version here; choose another model")
        if parent.name == model.name:
            self._store.activate(parent)
        self.forget()
        active = self._store.find(parent.name).version == parent.version
        return parent, parent.name if active else parent.reference


def _numbers(done: Improvement) -> str:
    """Both checks in words; empty without any."""
    said = []
    if done.check is not None:
        check = done.check
        places = "1 test cell" if check.n_places == 1 else f"{check.n_places} test cells"
        said.append(f"{_change(check, places)}")
        if check.n_places == 1:
            said.append("one cell is too few to be sure")
        elif check.weak:
            said.append("they are too few, or too near to cells it learnt from, to be sure")
    if done.replay is not None:
        said.append(_change(done.replay, "earlier corrections"))
    return "; ".join(said)


def _slips(done: Improvement, image: str) -> str:
    """A sentence more on what looks wrong; empty without any."""
    names = {slip.image for slip in done.slips}
    n = len(done.slips)
    places = "1 correction looks like a slip" if n == 1 else f"{n} corrections look like slips"
    # A folder of images teaches together.
    where = f" (on {few(names)})" if names - {image} else ""
    return f". {places} of the brush{where}: see Next doubtful cell" if n else ""


def _new(model: ModelVersion) -> str:
    number = f", version {model.version}," if model.version > 1 else ""
    return f'New model "{model.name}"{number}'


def _change(check: Check, where: str) -> str:
    return f"{100 * check.after:.0f} % on {where} (before {100 * check.before:.0f} %)"
