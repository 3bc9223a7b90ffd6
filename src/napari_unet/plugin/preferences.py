"""What a user wants the dock to begin with; kept by napari, or in a file where napari keeps none.

napari 0.9 shows these settings under File ▸ Preferences, as the manifest declares them. Older ones
do not: then they are in `preferences.json` in the user's folder for settings.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs
from psygnal import Signal

from napari_unet.io.atomic import replacing

_PLUGIN = "napari-unet"
DEVICES = ("auto", "cpu", "cuda", "mps")
AUTOMATIC, OUTLINES, FILLED = CELLS = ("automatic", "outlines", "filled")


@dataclass(frozen=True)
class Preferences:
    """The settings; the properties of `dock` in the manifest have the same names and defaults.

    Attributes
    ----------
    model
        Name of the model that is chosen at first; empty: the first one.
    device
        One of `DEVICES`.
    cells
        How results are shown, one of `CELLS`.
    drafts
        Folder in which strokes are saved as they are made; empty: beside the models.
    server
        Name of a server that computes, or the file of its credentials; empty: this computer.

    Raises
    ------
    ValueError
        If a value is none of these.
    """

    model: str = ""
    device: str = "auto"
    cells: str = AUTOMATIC
    drafts: str = ""
    server: str = ""

    @property
    def drafts_folder(self) -> Path | None:
        """The folder of `drafts`; None for the one beside the models."""
        return Path(self.drafts).expanduser() if self.drafts else None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str):
                raise ValueError(f"{name} is {value!r}; give a text")
        for name, known in (("device", DEVICES), ("cells", CELLS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}"
                )


class PreferenceStore:
    """Reads and keeps the preferences.

    A file that cannot be read is left as it is, a copy is put beside it before it is written, and
    the defaults hold.

    Parameters
    ----------
    path
        A json file to use in any case; by default napari keeps them, if it can.

    Attributes
    ----------
    values
        The preferences.
    fault
        Why the defaults hold, in a sentence; empty if they were read.
    path
        The file; None if napari keeps nothing.

    Signals
    -------
    changed
        The preferences; also if they were changed in napari's own dialog.
    """

    changed = Signal(Preferences)

    def __init__(self, path: Path | None = None) -> None:
        self._napari = _settings_of_napari() if path is None else None
        self.path: Path | None = path or _default_path()
        if self._napari is not None:
            kept = self._napari.config_path
            self.path = Path(kept) if kept else None
        self.fault = ""
        self.values = Preferences()
        self._read()
        if self._napari is not None:
            self._napari.dock.events.connect(self._on_napari)

    def close(self) -> None:
        """Let go of napari's settings; safe to call twice."""
        if self._napari is not None:
            self._napari.dock.events.disconnect(self._on_napari)
            self._napari = None

    def save(self, values: Preferences) -> None:
        """Keep these preferences, from now on.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        if self._napari is not None:
            self._napari.dock.update(asdict(values))
            return
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part:
                part.write_text(json.dumps(asdict(values), indent=1), encoding="utf-8")
        self._take(values)

    def _read(self) -> None:
        try:
            if self._napari is not None:
                self._check_yaml()
                self.values = _of_napari(self._napari)
            elif self.path is not None and self.path.exists():
                self.values = _known(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            copy = self._keep()
            self.fault = (
                f"the preferences in {self.path} cannot be read ({' '.join(str(error).split())}), "
                f"so the defaults hold{copy}; set them again under Preferences in the menu ?"
            )

    def _check_yaml(self) -> None:
        """Raise `ValueError` if napari's file cannot be read: napari only logs that."""
        import yaml

        if self.path is None or not self.path.exists():
            return
        try:
            found = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
        _known(found.get("dock", {}) if isinstance(found, dict) else found)

    def _keep(self) -> str:
        """Copy the file that cannot be read, for saving replaces it; returns words on that."""
        if self.path is None:
            return ""
        copy = self.path.with_name(f"{self.path.name}.broken")
        try:
            shutil.copyfile(self.path, copy)
        except OSError:
            return ""
        return f" (the file is kept as {copy.name})"

    def _on_napari(self, *_: object) -> None:
        if self._napari is not None:
            self._take(_of_napari(self._napari))

    def _take(self, values: Preferences) -> None:
        if values != self.values:
            self.values = values
            self.changed.emit(values)


def _default_path() -> Path:
    named = os.environ.get("NAPARI_UNET_PREFERENCES")
    folder = platformdirs.user_config_path(_PLUGIN, appauthor=False)
    return Path(named) if named else folder / "preferences.json"


def _settings_of_napari() -> Any:
    """Return napari's settings of this plugin; None where napari has none."""
    if os.environ.get("NAPARI_UNET_PREFERENCES"):
        return None
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    # A plugin that was not installed from its wheel has no manifest that napari knows. Of a yaml
    # that holds no table, napari raises an AssertionError.
    with suppress(KeyError, AssertionError):
        return get_plugin_settings(_PLUGIN)
    return None


def _of_napari(settings: Any) -> Preferences:
    return Preferences(**{f.name: getattr(settings.dock, f.name) for f in fields(Preferences)})


def _known(found: object) -> Preferences:
    """Return preferences from the content of a file; what it has besides is for other versions.

    Raises
    ------
    ValueError
        If it holds something else.
    """
    if not isinstance(found, dict):
        raise ValueError("it holds no settings")
    return Preferences(**{f.name: found[f.name] for f in fields(Preferences) if f.name in found})
