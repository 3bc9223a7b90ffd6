"""Models on disk: names, versions, parents. Listing reads headers only, never weights.

    ROOT/NAME/0002.safetensors     one file per version
    ROOT/NAME/0002.refused         version 2 was not accepted: NAME never means it
    ROOT/NAME/active               the number of the version that NAME means

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
from napari_unet.models.device import check_torch
from napari_unet.models.exchange.archive_files import is_archive
from napari_unet.models.exchange.formats import FORMATS, export_model, format_of, is_replaceable
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
        Name of the model.
    version
        Number of the version, from 1; 0 for a file outside the store.
    path
        Its file.
    header
        The header of the file.
    """

    name: str
    version: int
    path: Path
    header: ModelHeader

    @property
    def reference(self) -> str:
        """Text that means this version: NAME@VERSION, or the path of a file outside the store."""
        return f"{self.name}@{self.version}" if self.version else str(self.path)

    @property
    def shipped(self) -> bool:
        """Whether it is part of the program."""
        return self.path.parent == SHIPPED

    @property
    def refused(self) -> bool:
        """Whether its validation did not accept it; then only NAME@VERSION means it."""
        return _is_refused(self.path)

    def sha256(self) -> str:
        """Return the hash of the file, by which the header of a child names its parent."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


Reference = str | Path | ModelVersion


class ModelStore:
    """The models of the user of this computer.

    Parameters
    ----------
    root
        Folder of the models; by default $NAPARI_UNET_MODELS or the platform's folder for user data.
    """

    def __init__(self, root: Path | None = None) -> None:
        default = os.environ.get("NAPARI_UNET_MODELS") or (
            platformdirs.user_data_path("napari-unet", appauthor=False) / "models"
        )
        self.root = Path(root or default)
        for folder in self.root.glob("*/"):
            clean_once(folder, _SUFFIX)
            for mark in folder.glob(f"*{_REFUSED}"):
                # A killed program left this mark, and did not write the version.
                if not mark.with_suffix(_SUFFIX).exists():
                    mark.unlink(missing_ok=True)

    def names(self, *, refused: bool = False) -> list[str]:
        """Return the names of all models that have an accepted version, shipped ones first.

        With `refused`, names whose versions were all refused are returned as well.
        """
        shipped = sorted(path.stem for path in SHIPPED.glob(f"*{_SUFFIX}"))
        own = sorted(p.parent.name for p in self.root.glob(f"*/*{_SUFFIX}"))
        known = dict.fromkeys([*shipped, *own])
        there = self.versions if refused else self.accepted
        return [n for n in known if _NAME.fullmatch(n) and there(n)]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all readable versions of a model, oldest first; empty if there is none."""
        found = []
        for version, path in sorted(self._paths(name).items()):
            try:
                found.append(ModelVersion(name, version, path, read_header(path)))
            except ModelFileError:
                continue
        return found

    def accepted(self, name: str) -> list[ModelVersion]:
        """Return the readable versions that were not refused, oldest first."""
        return [version for version in self.versions(name) if not version.refused]

    def find(self, reference: Reference) -> ModelVersion:
        """Return the version that NAME, NAME@VERSION or the path of a file means.

        A version is returned unchanged. NAME alone never means a version that was refused.

        Raises
        ------
        ModelFileError
            If there is no such version, or it is broken.
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
                read_header(broken)  # raises an error that says what is wrong with the file
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
            Name of a new or an existing model.
        write
            Called with a path; writes the model file there, whole or not at all.
        activate
            Whether the version was accepted, so that NAME means it from now on. Otherwise it is
            marked as refused.

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
        """Check that a model of this name can be stored, before long work begins.

        Raises
        ------
        ValueError
            If the name cannot be a model's.
        ModelFileError
            If the program cannot write to its folder.
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

    def find_to_train(self, reference: Reference) -> ModelVersion:
        """Return a version as `find`, of a model that can learn.

        Raises
        ------
        ModelFileError
            As `find`, and if it is a model of another program.
        """
        model = self.find(reference)
        if model.header.foreign:
            raise ModelFileError(
                f"{model.reference} is a model of another program: it segments, and cannot be "
                "fine-tuned; fine-tune another one, such as nuclei"
            )
        return model

    def activate(self, model: ModelVersion) -> None:
        """Make the model's name mean this version; a refused version becomes accepted."""
        if model.refused:
            model.path.with_suffix(_REFUSED).unlink(missing_ok=True)
        with replacing(self.root / model.name / "active") as part:
            part.write_text(f"{model.version}\n")

    def parent(self, model: ModelVersion) -> ModelVersion | None:
        """Return the version that a model was fine-tuned from; None if it is not in the store."""
        if model.header.parent is None:
            return None
        # Hashing a file takes time, so the versions just before this one are tried first.
        own = sorted(
            self.versions(model.name), key=lambda v: (v.version >= model.version, -v.version)
        )
        names = self.names(refused=True)
        others = (v for n in names if n != model.name for v in self.versions(n))
        return next((v for v in chain(own, others) if v.sha256() == model.header.parent), None)

    def ancestor(self, model: ModelVersion) -> ModelVersion | None:
        """Return the nearest accepted version among the parent, its parent and so on, or None."""
        parent = self.parent(model)
        while parent is not None and parent.refused:
            parent = self.parent(parent)
        return parent

    def revert(self, name: str) -> ModelVersion:
        """Make the parent of the active version active; the newer version stays in the store.

        If the parent was refused, its own parent is taken, and so on.

        Raises
        ------
        ModelFileError
            If there is no such version of this model.
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
        """Return the name of the model that gets the versions fine-tuned from this one.

        It is the same name, or a new one such as "my-nuclei" if this model is part of the program,
        because shipped models are never changed.
        """
        if not model.shipped:
            return model.name
        name, number = f"my-{model.name}", 1
        # A folder with corrections but no accepted version is from a fine-tune that was cancelled,
        # killed or refused. Its name is used again, so that the next fine-tune finds them.
        while any(map(_takes_its_name, (self.root / name).glob(f"*{_SUFFIX}"))):
            number += 1
            name = f"my-{model.name}-{number}"
        return name

    def import_file(self, path: Path, name: str | None = None) -> ModelVersion:
        """Copy a model file into the store as a new version of `name`, or of its own name.

        It may also be a zip, or a folder, in the format of bioimage.io: of this program, or of
        another one with ONNX weights (`models.exchange`).

        Raises
        ------
        ModelFileError
            If the file is not a model or is broken, or if the folder of the models is read-only.
        """
        if is_archive(path):
            from napari_unet.models.exchange.archive_reader import model_file_of

            with model_file_of(path) as inner:
                return self.import_file(inner, name)
        header = read_header(path)  # first, because a bad header is found without loading torch
        check_torch()
        from napari_unet.models.checkpoint import load_model

        self.check_can_add(name or header.name)
        load_model(path)
        return self.add(name or header.name, lambda target: _copy(path, target))

    def export(
        self, reference: Reference, path: Path, *, half: bool = False, form: str | None = None
    ) -> Path:
        """Write a version to a file, or into a folder under its name.

        Parameters
        ----------
        reference
            As for `find`.
        path
            The new file, or a folder that exists.
        half
            Whether the weights of a model file are stored in 16 bits.
        form
            "model", a file of this program; "onnx"; or "bioimageio", a zip in the format of
            bioimage.io. None goes by the ending of the file: .onnx, .zip, or any other.

        Raises
        ------
        ModelFileError
            If there is no such version, a package is missing, or if the file exists and is not a
            model.
        """
        model = self.find(reference)
        if path.is_dir():
            path = path / f"{model.name}{FORMATS[form or 'model']}"
        form = format_of(path, form)
        if os.path.lexists(path) and not is_replaceable(path):
            raise ModelFileError(
                f"{path} is there already and is no model of napari-unet, so it is not "
                "replaced; give another name"
            )
        if model.header.foreign and (form != "model" or half):
            raise ModelFileError(
                f"{model.reference} is a model of another program; it is exported as a model of "
                "napari-unet only, in full precision"
            )
        if form != "model":
            export_model(model.path, path, form)
        elif half:
            check_torch()
            from napari_unet.models.checkpoint import load_model, save_model

            save_model(path, *load_model(model.path), half=True)
        else:
            _copy(model.path, path)
        return path

    def remove(self, reference: Reference) -> ModelVersion:
        """Delete one version; if it was active, the name means the newest accepted one left.

        Raises
        ------
        ModelFileError
            If there is no such version, or it is part of the program.
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

    def rename(self, name: str, new: str) -> ModelVersion:
        """Give a model another name, with all its versions and corrections; returns the active one.

        Raises
        ------
        ValueError
            If the new name cannot be a model's.
        ModelFileError
            If the model is part of the program, or the new name is taken.
        """
        check_name(new)
        if self.find(name).shipped:
            raise ModelFileError(f"{name!r} is part of the program and keeps its name")
        if (self.root / new).exists() or (SHIPPED / f"{new}{_SUFFIX}").exists():
            raise ModelFileError(f"there is a model {new!r} already; give another name")
        (self.root / name).rename(self.root / new)
        return self.find(new)

    def _paths(self, name: str) -> dict[int, Path]:
        """Return the path of each version of a model, readable or not, by its number."""
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
                # Another program may be adding a version at the same time.
                reserve(path)
            except FileExistsError:
                number += 1
            else:
                return path


def check_name(name: str) -> None:
    """Check that a text can be the name of a model.

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
    """Return whether a file is an accepted version, not a placeholder of a running fine-tune."""
    return not is_reserved(path) and not _is_refused(path)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)
