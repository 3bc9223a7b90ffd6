"""The command `napari-unet corrections`: lists and manages the stored corrections of a model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from napari_unet.corrections.collection import Collection, find_collection
from napari_unet.models.store import ModelStore


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add list, show, export and remove to the parser of `corrections`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, what, more in (
        ("list", _list, "all corrections of a model", None),
        ("show", _show, "what the file of a correction says", "key"),
        ("export", _export, "copy them to a new folder", "folder"),
        ("remove", _remove, "delete one, with what it replaced", "key"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("model", metavar="MODEL", help="or a folder of corrections")
        if more:
            command.add_argument(more, metavar=more.upper())
        command.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    collection = _collection(options)
    entries = collection.entries()
    for entry in entries:
        rows, columns = entry.shape
        share = 100 * entry.seen_px / (rows * columns)
        cells = f"{entry.n_cells} cell{'' if entry.n_cells == 1 else 's'}"
        print(
            f"{entry.key:32} {entry.created:28} {cells:10} "
            f"{share:3.0f} % of {rows} x {columns} px  {', '.join(entry.classes)}".rstrip()
        )
    if not entries:
        print(f"no corrections yet in {collection.folder}", file=sys.stderr)
    return 0


def _show(options: argparse.Namespace) -> int:
    collection = _collection(options)
    entry = collection.find(options.key)
    places = zip(("image", "labels", "seen"), collection.files(entry), strict=True)
    files = {what: str(path) for what, path in places}
    print(json.dumps({"key": entry.key, "files": files} | collection.facts(entry), indent=2))
    return 0


def _export(options: argparse.Namespace) -> int:
    exported = _collection(options).export(Path(options.folder))
    print(f"exported to {exported.folder}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    for key in _collection(options).remove(options.key):
        print(f"removed {key}")
    return 0


def _collection(options: argparse.Namespace) -> Collection:
    return find_collection(ModelStore(), options.model)
