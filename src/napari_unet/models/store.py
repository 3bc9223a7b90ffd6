"""Models on disk: names, versions, parents. Listing reads headers only, never weights.

    ROOT/NAME/0002.safetensors     one file per version
    ROOT/NAME/0002.refused         it was not accepted: NAME never stands for it
    ROOT/NAME/active               the number of the version that NAME stands for

Version 1 of a model that ships with the program lies in the package. The mark of a refused version
is written before its model file and removed when it is accepted, so a crash leaves it refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import platformdirs

from napari_unet.io.atomic import clean_once, is_reserved, part_of, replacing, reserve
from napari_unet.models.header import ModelFileError, ModelHeader, read_header
from napari_unet.models.header_rules import NAME as _NAME
from napari_unet.models.header_rules import SUFFIX as _SUFFIX
from napari_unet.models.header_rules import is_name

SHIPPED = Path(__file__).parent.parent / "weights"
_REFUSED = ".refused"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes
    ----------
    name
        The model.
    version
        From 1.
    path
        Its file.
    header
        What the file says of itself.
    """

    name: str
    version: int
    path: Path
    header: ModelHeader

    @property
    def reference(self) -> str:
        """NAME@VERSION; the path for a file outside the store."""
        return f"{self.name}@{self.version}" if self.version else str(self.path)

    @property
    def shipped(self) -> bool:
        """Whether it came with the program."""
        return self.path.parent == SHIPPED

    @property
    def refused(self) -> bool:
        """Whether the check did not accept it; only NAME@VERSION means it then."""
        return _is_refused(self.path)

    def sha256(self) -> str:
        """Hash of the file, which is what a child's header calls its parent."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


Reference = str | Path | ModelVersion


class ModelStore:
    """The models of this user.

    Parameters
    ----------
    root
        Folder; by default $NAPARI_UNET_MODELS or the platform's folder for user data.
    """

    def __init__(self, root: Path | None = None) -> None:
        default = os.environ.get("NAPARI_UNET_MODELS") or (
            platformdirs.user_data_path("napari-unet", appauthor=False) / "models"
        )
        self.root = Path(root or default)
        for folder in self.root.glob("*/"):
            clean_once(folder, _SUFFIX)
            for mark in folder.glob(f"*{_REFUSED}"):
                # Of a version that a killed program did not come to write.
                if not mark.with_suffix(_SUFFIX).exists():
                    mark.unlink(missing_ok=True)

    def names(self, *, refused: bool = False) -> list[str]:
        """All names that stand for a version, those that ship first.

        With `refused`, also those of which every version was refused.
        """
        shipped = sorted(path.stem for path in SHIPPED.glob(f"*{_SUFFIX}"))
        own = sorted(p.parent.name for p in self.root.glob(f"*/*{_SUFFIX}"))
        known = dict.fromkeys([*shipped, *own])
        there = self.versions if refused else self.accepted
        return [n for n in known if _NAME.fullmatch(n) and there(n)]

    def versions(self, name: str) -> list[ModelVersion]:
        """All readable versions of a model, oldest first; empty if there is none."""
        found = []
        for version, path in sorted(self._paths(name).items()):
            try:
                found.append(ModelVersion(name, version, path, read_header(path)))
            except ModelFileError:
                continue
        return found

    def accepted(self, name: str) -> list[ModelVersion]:
        """The readable versions that were not refused, oldest first."""
        return [version for version in self.versions(name) if not version.refused]

    def find(self, reference: Reference) -> ModelVersion:
        """The version that NAME, NAME@VERSION or a file's path stands for; a version as it is.

        NAME alone never stands for a version that was refused.

        Raises
        ------
        ModelFileError
            If there is none, or it is broken.
        """
        if isinstance(reference, ModelVersion):
            return reference
        text = str(reference)
        if isinstance(reference, Path) or text.endswith(_SUFFIX):
            path = Path(reference)
            header = read_header(path)
            return ModelVersion(header.name, 0, path, header)
        name, at, number = text.partition("@")
        if _NAME.fullmatch(name) and (number.isdecimal() or not at):
            versions = {v.version: v for v in (self.versions if at else self.accepted)(name)}
            wanted = int(number) if at else self._active_number(name)
            if wanted not in versions and versions and not at:
                wanted = max(versions)
            if wanted in versions:
                return versions[wanted]
            broken = self._paths(name).get(wanted)
            if broken is not None and broken.exists():
                read_header(broken)  # tells what is wrong with it
            refused = ", ".join(v.reference for v in self.versions(name) if not at)
            if refused:
                raise ModelFileError(
                    f"no version of {name!r} was accepted by its check; fine-tune again, or give "
                    f"a version to use it all the same: {refused}"
                )
        there = ", ".join(v.reference for n in self.names() for v in self.accepted(n))
        raise ModelFileError(
            f"there is no model {text!r}; choose one of: {there or 'none yet'}, "
            f"or give the path of a {_SUFFIX} file"
        )

    def add(
        self, name: str, write: Callable[[Path], object], *, activate: bool = True
    ) -> ModelVersion:
        """Store a new version of a model.

        Parameters
        ----------
        name
            The model, new or known.
        write
            Writes the model file to the path it is given, atomically.
        activate
            Whether it was accepted: its name stands for it from now on. Else it is refused.

        Raises
        ------
        ValueError
            If the name cannot be a model's.
        """
        path = self._reserve(name)
        mark = path.with_suffix(_REFUSED)
        try:
            with replacing(mark) as part:
                part.write_text("not accepted\n")
            write(path)
            added = ModelVersion(name, int(path.stem), path, read_header(path))
        except BaseException:
            path.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            raise
        if activate:
            self.activate(added)
        return added

    def check_can_add(self, name: str) -> None:
        """See that a model of this name could be stored, before long work begins.

        Raises
        ------
        ValueError
            If the name cannot be a model's.
        ModelFileError
            If its folder cannot be written to.
        """
        check_name(name)
        folder = self.root / name
        try:
            while not folder.exists():
                folder = folder.parent
            part = part_of(folder / name)
            part.touch()
            part.unlink()
        except OSError as error:
            raise ModelFileError(
                f"models cannot be stored in {self.root / name} ({error.strerror}); set the "
                "environment variable NAPARI_UNET_MODELS to a folder that you may write to, and "
                "start again"
            ) from error

    def activate(self, model: ModelVersion) -> None:
        """Let the model's name stand for this version, which is accepted by that."""
        if model.refused:
            model.path.with_suffix(_REFUSED).unlink(missing_ok=True)
        with replacing(self.root / model.name / "active") as part:
            part.write_text(f"{model.version}\n")

    def parent(self, model: ModelVersion) -> ModelVersion | None:
        """The version that a model was fine-tuned from, of any name; None if it is not here."""
        if model.header.parent is None:
            return None
        # Hashing takes a while: the versions just before it first.
        own = sorted(
            self.versions(model.name), key=lambda v: (v.version >= model.version, -v.version)
        )
        names = self.names(refused=True)
        others = (v for n in names if n != model.name for v in self.versions(n))
        return next((v for v in chain(own, others) if v.sha256() == model.header.parent), None)

    def ancestor(self, model: ModelVersion) -> ModelVersion | None:
        """The nearest version that a model was fine-tuned from and that was not refused."""
        parent = self.parent(model)
        while parent is not None and parent.refused:
            parent = self.parent(parent)
        return parent

    def revert(self, name: str) -> ModelVersion:
        """Go back to the parent of the active version; the newer one stays in the store.

        A parent that was refused is passed over, for its own parent.

        Raises
        ------
        ModelFileError
            If there is nothing to go back to.
        """
        active = self.find(name)
        parent = self.ancestor(active)
        if parent is None or parent.name != active.name:
            raise ModelFileError(
                f"{active.reference} has no earlier version of its own; choose another model"
            )
        self.activate(parent)
        return parent

    def name_for_own(self, model: ModelVersion) -> str:
        """The model that gets what is learnt from this one: a new one if this one shipped.

        What ships stays as it is, whatever it is taught.
        """
        if not model.shipped:
            return model.name
        name, number = f"my-{model.name}", 1
        # Corrections without an accepted version are those of a fine-tune that was cancelled,
        # killed or refused: the next one is to find them.
        while any(map(_takes_its_name, (self.root / name).glob(f"*{_SUFFIX}"))):
            number += 1
            name = f"my-{model.name}-{number}"
        return name

    def import_file(self, path: Path, name: str | None = None) -> ModelVersion:
        """Copy a model file into the store as a new version of `name`, or of its own name.

        Raises
        ------
        ModelFileError
            If the file is no model, or broken, or the folder of the models cannot be written to.
        """
        header = read_header(path)  # what it refuses needs no torch to be told
        from napari_unet.models.checkpoint import load_model

        self.check_can_add(name or header.name)
        load_model(path)
        return self.add(name or header.name, lambda target: _copy(path, target))

    def export(self, reference: Reference, path: Path, *, half: bool = False) -> Path:
        """Copy a version to a file, or into a folder under its name; `half` stores 16 bits.

        Raises
        ------
        ModelFileError
            If there is no such version, or something else than a model is there.
        """
        model = self.find(reference)
        if path.is_dir():
            path = path / f"{model.name}{_SUFFIX}"
        if os.path.lexists(path):
            try:
                read_header(path)
            except ModelFileError as error:
                raise ModelFileError(
                    f"{path} is there already and is no model of napari-unet, so it is not "
                    "replaced; give another name"
                ) from error
        if half:
            from napari_unet.models.checkpoint import load_model, save_model

            save_model(path, *load_model(model.path), half=True)
        else:
            _copy(model.path, path)
        return path

    def remove(self, reference: Reference) -> ModelVersion:
        """Delete one version; its name then stands for the newest accepted one that is left.

        Raises
        ------
        ModelFileError
            If there is none, or it ships with the program.
        """
        model = self.find(reference)
        if model.shipped or not model.version:
            raise ModelFileError(f"{model.reference} is not in the store; nothing was removed")
        active = not model.refused and self.find(model.name).version == model.version
        model.path.unlink()
        model.path.with_suffix(_REFUSED).unlink(missing_ok=True)
        if active:
            (model.path.parent / "active").unlink(missing_ok=True)
        return model

    def _paths(self, name: str) -> dict[int, Path]:
        """Where each version of a model lies, readable or not."""
        own = (self.root / name).glob(f"*{_SUFFIX}")
        return {1: SHIPPED / f"{name}{_SUFFIX}"} | {
            int(path.stem): path for path in own if path.stem.isdecimal()
        }

    def _active_number(self, name: str) -> int:
        try:
            return int((self.root / name / "active").read_text())
        except (OSError, ValueError):
            return 0

    def _reserve(self, name: str) -> Path:
        check_name(name)
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        paths = self._paths(name)
        number = max((n for n, path in paths.items() if path.exists()), default=0) + 1
        while True:
            path = folder / f"{number:04d}{_SUFFIX}"
            try:
                # Another program may be adding a version too.
                reserve(path)
            except FileExistsError:
                number += 1
            else:
                return path


def check_name(name: str) -> None:
    """See that a name can be a model's.

    Raises
    ------
    ValueError
        If it cannot be a file name on every system, or looks like a path.
    """
    if not is_name(name):
        raise ValueError(
            f"{name!r} cannot be a model's name; use up to 100 letters, digits, '-', '_' and '.'"
        )


def _is_refused(path: Path) -> bool:
    return path.with_suffix(_REFUSED).exists()


def _takes_its_name(path: Path) -> bool:
    """Whether the file of a version is more than a number held by a fine-tune, and not refused."""
    return not is_reserved(path) and not _is_refused(path)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)
