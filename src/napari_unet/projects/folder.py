"""The images in the folder of a project: which there are, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, count
from pathlib import Path, PurePosixPath

from napari_unet.io.images import LABELS, SUFFIXES, list_images
from napari_unet.io.ome_zarr import fields_of_plate, is_zarr
from napari_unet.projects.classes import CLASSES
from napari_unet.projects.manifest import FILE

# Bytes that are hashed at the beginning, in the middle and at the end of a file.
_PIECE = 1 << 20
# Names of files that say what a zarr store holds.
METADATA = (".zattrs", ".zarray", ".zgroup", "zarr.json")


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted, and the fields of its plates in OME-Zarr.

    Hidden files and labels beside their images are left out.

    Raises
    ------
    ValueError
        If there is no such folder, or it holds no image.
    """
    if not folder.is_dir() or is_zarr(folder):
        raise ValueError(f"there is no folder {folder}; give the folder of the images")
    return with_fields(list_images([folder]))


def folder_of(paths: Sequence[Path]) -> tuple[Path, Sequence[Path] | None]:
    """Return the folder of a project, and which images of it were chosen; None: all.

    Parameters
    ----------
    paths
        A folder; or files, images in zarr and plates, whose project lies in the folder above them.
    """
    if len(paths) == 1 and not (paths[0].is_file() or is_zarr(paths[0])):
        return paths[0], None
    return Path(os.path.commonpath([path.absolute().parent for path in paths])), paths


def with_fields(images: Iterable[Path]) -> list[Path]:
    """Return images, and the fields of a plate in OME-Zarr in place of the plate."""
    return [each for path in images for each in (is_zarr(path) and fields_of_plate(path)) or [path]]


def others_in(folder: Path) -> list[str]:
    """Return the names of the visible files of a folder that are no images, nor this program's."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.startswith((".", "napari-unet-"))
        and not path.stem.endswith(f"{LABELS}{CLASSES}")
        and path.name not in (FILE, "Thumbs.db", "desktop.ini")
        and path.suffix.lower() not in SUFFIXES
    )


def label_path(name: str, folder: str, taken: Collection[str]) -> str:
    """Choose the path of an image's labels, from the folder of the project.

    Parameters
    ----------
    name
        Path of the image from the folder of the project, with slashes.
    folder
        The folder of labels, likewise; "." for beside the image.
    taken
        Paths that other images have, in small letters: many systems do not tell A from a.
    """
    image = PurePosixPath(name)
    stem, ending = image.stem, ".tif"
    for number, part in enumerate(image.parts):
        if part.lower().endswith(".zarr"):
            stem = "_".join([PurePosixPath(part).stem, *image.parts[number + 1 :]])
            ending = ".zarr"
            image = PurePosixPath(*image.parts[: number + 1])
            break
    where = image.parent if folder == "." else PurePosixPath(folder)
    # Two images may differ in their endings alone.
    whole = f"{stem}-{PurePosixPath(name).suffix.lstrip('.')}"
    choices = chain([stem, whole], (f"{whole}-{n}" for n in count(2)))
    paths = (str(where / f"{choice}{LABELS}{ending}") for choice in choices)
    return next(path for path in paths if path.lower() not in taken)


def stamp_of(path: Path) -> str:
    """Return the size and the time of an image file, which change where it is written anew."""
    facts = [file.stat() for file in _files(path)]
    return " ".join(f"{each.st_size}-{each.st_mtime_ns}" for each in facts)


def fingerprint_of(path: Path) -> str:
    """Return 16 hexadecimal digits that tell the content of an image file from others.

    Of a large file three pieces are read; of a zarr store, only what it says of its arrays.
    """
    found = hashlib.sha256()
    for file in _files(path):
        size = file.stat().st_size
        found.update(f"{file.name} {size}".encode() if path.is_dir() else str(size).encode())
        with file.open("rb") as content:
            starts = (0, size // 2, size - _PIECE) if size > 3 * _PIECE else range(0, size, _PIECE)
            for start in starts:
                content.seek(start)
                found.update(content.read(_PIECE))
    return found.hexdigest()[:16]


def few(names: Iterable[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [path / name for name in METADATA if (path / name).is_file()]
