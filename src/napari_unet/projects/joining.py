"""Two projects joined: two people worked on the images of one folder, or on two folders."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from napari_unet.io.ome_zarr import is_zarr
from napari_unet.projects.classes import classes_of, save_classes
from napari_unet.projects.folder import METADATA, fingerprint_of, label_path
from napari_unet.projects.manifest import (
    FILE,
    NEW,
    SEGMENTED,
    STATES,
    ImageEntry,
    Manifest,
    write_manifest,
)
from napari_unet.projects.project import CORRECTIONS, Project

# Bytes of each file in a zarr store by which images are told from each other.
_BEGINNING = 1 << 16


def folder_for(first: Path, second: Path) -> Path:
    """Return the folder beside the first project in which two projects are joined by default."""
    return first.absolute().with_name(f"{first.absolute().name}-and-{second.absolute().name}")


def join(first: Path, second: Path, out: Path) -> list[str]:
    """Join two projects in a new folder: images, labels, corrections, states.

    Of an image that both have, the one that is further on is taken. Where both corrected it and
    the labels differ, or two images have one name, both are kept: the second gets a new name.

    Parameters
    ----------
    first, second
        Folders of projects; nothing in them is changed.
    out
        The folder to make; it appears whole or not at all.

    Returns
    -------
    A sentence for each conflict.

    Raises
    ------
    ValueError
        If there is something at `out`, or a folder is no project.
    OSError
        If it cannot be written.
    """
    if out.exists():
        raise ValueError(f"{out} is there already, so nothing was written; give another name")
    projects = [_opened(folder) for folder in (first, second)]
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        told = _join_into(part, projects)
        # Open once, so that what is wrong shows now.
        Project(part)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return told


def _opened(folder: Path) -> Project:
    if not (folder / FILE).exists():
        raise ValueError(f"{folder} is no project: it has no {FILE}; segment its images first")
    return Project(folder)


def _join_into(out: Path, projects: Sequence[Project]) -> list[str]:
    images: dict[str, ImageEntry] = {}
    origin: dict[str, tuple[Project, str]] = {}
    told: list[str] = []
    for project in projects:
        for name in sorted(project.names):
            entry = project.entry(name)
            # Images that lie elsewhere come into the folder.
            wanted = PurePosixPath(name).name if name.startswith(("../", "/")) else name
            target = wanted
            if wanted in images:
                other, known = origin[wanted], images[wanted]
                if not _same_image(other, (project, name)):
                    target = _free(wanted, images)
                    told.append(
                        f"{wanted} is another image in {project.folder}; it is {target} here"
                    )
                elif entry.is_kept and known.is_kept and not _same_labels(other, (project, name)):
                    target = _free(wanted, images)
                    told.append(
                        f"{wanted} was corrected in both folders; what was done in "
                        f"{project.folder} is {target} here"
                    )
                elif STATES.index(entry.state) <= STATES.index(known.state):
                    continue
            taken = {e.labels.lower() for n, e in images.items() if n != target}
            place = label_path(target, "labels", taken)
            # A model of that name on another computer did not learn from it.
            images[target] = replace(entry, labels=place, is_changed=entry.is_kept)
            origin[target] = project, name
    plates: dict[Path, Path] = {}
    for target, (project, name) in origin.items():
        field = project.path(name)
        _copy(field, out / target)
        plate = _plate_of(field)
        if plate is not None:
            plates[out / target.removesuffix(field.relative_to(plate).as_posix())] = plate
        labels = project.label_path(name)
        if labels.exists():
            _copy(labels, out / images[target].labels)
            save_classes(out / images[target].labels, classes_of(labels))
        elif images[target].state == SEGMENTED:
            images[target] = replace(images[target], state=NEW)
        if project.is_corrected(name):
            project.drafts.copy(name, type(project.drafts)(out / CORRECTIONS), target)
    for new, plate in plates.items():
        _copy_plate(plate, new)
    second, first = (project.manifest.read_as for project in projects[::-1])
    write_manifest(out / FILE, Manifest(images, read_as={**second, **first}))
    return told


def _same_image(one: tuple[Project, str], other: tuple[Project, str]) -> bool:
    paths = [project.path(name) for project, name in (one, other)]
    print_of = _print_of_store if paths[0].is_dir() and paths[1].is_dir() else fingerprint_of
    return print_of(paths[0]) == print_of(paths[1])


def _print_of_store(path: Path) -> str:
    """Return a hash of the size and the beginning of each file of an image in zarr."""
    found = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        found.update(f"{file.relative_to(path)} {file.stat().st_size}".encode())
        with file.open("rb") as content:
            found.update(content.read(_BEGINNING))
    return found.hexdigest()


def _same_labels(one: tuple[Project, str], other: tuple[Project, str]) -> bool:
    found = [p.read_labels(n, p.read(n)) for p, n in (one, other)]
    if found[0] is None or found[1] is None:
        return found[0] is found[1]
    return found[0].shape == found[1].shape and bool((found[0] == found[1]).all())


def _free(name: str, taken: dict[str, ImageEntry]) -> str:
    # Of an image in a store the store gets the name: a plate tells the names of its fields.
    parts = PurePosixPath(name).parts
    at = next((n for n, part in enumerate(parts) if part.lower().endswith(".zarr")), len(parts) - 1)
    path, rest = PurePosixPath(*parts[: at + 1]), parts[at + 1 :]
    names = (
        str(PurePosixPath(path.with_stem(f"{path.stem}-{n}"), *rest))
        for n in range(2, len(taken) + 3)
    )
    return next(free for free in names if free not in taken)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _plate_of(field: Path) -> Path | None:
    """The store of the plate that an image is a field of; None if it is none."""
    return next((path for path in reversed(field.parents) if is_zarr(path)), None)


def _copy_plate(plate: Path, target: Path) -> None:
    """Copy what a plate says of itself and of its wells, but no field."""
    for group in (plate, *plate.glob("*"), *plate.glob("*/*")):
        for name in METADATA:
            copy = target / group.relative_to(plate) / name
            if (group / name).is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(group / name, copy)
