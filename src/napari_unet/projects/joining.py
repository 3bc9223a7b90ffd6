"""Two projects joined: two people worked on the images of one folder, or on two folders."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from napari_unet.projects.folder import fingerprint_of, label_path
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
            labels = label_path(target, "labels", taken)
            # A model of that name on another computer did not learn from it.
            images[target] = replace(entry, labels=labels, is_changed=entry.is_kept)
            origin[target] = project, name
    for target, (project, name) in origin.items():
        _copy(project.path(name), out / target)
        if project.label_path(name).exists():
            _copy(project.label_path(name), out / images[target].labels)
        elif images[target].state == SEGMENTED:
            images[target] = replace(images[target], state=NEW)
        if project.is_corrected(name):
            project.drafts.copy(name, type(project.drafts)(out / CORRECTIONS), target)
    write_manifest(out / FILE, Manifest(images))
    return told


def _same_image(one: tuple[Project, str], other: tuple[Project, str]) -> bool:
    return len({fingerprint_of(project.path(name)) for project, name in (one, other)}) == 1


def _same_labels(one: tuple[Project, str], other: tuple[Project, str]) -> bool:
    found = [p.read_labels(n, p.read(n)) for p, n in (one, other)]
    if found[0] is None or found[1] is None:
        return found[0] is found[1]
    return found[0].shape == found[1].shape and bool((found[0] == found[1]).all())


def _free(name: str, taken: dict[str, ImageEntry]) -> str:
    path = PurePosixPath(name)
    names = (str(path.with_stem(f"{path.stem}-{n}")) for n in range(2, len(taken) + 3))
    return next(free for free in names if free not in taken)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
