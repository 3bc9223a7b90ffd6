"""The command `napari-unet servers`: the servers that this user has named."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.client.known import KnownServers, why_silent


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add list, add and remove to the parser."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="their names, and whether they answer").set_defaults(run=_list)
    add = commands.add_parser("add", help="keep a copy of the file that napari-unet serve wrote")
    add.add_argument("file", type=Path)
    add.set_defaults(run=_add)
    remove = commands.add_parser("remove", help="forget a server, and delete the copy")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)


def _known() -> KnownServers:
    return SegmentationService().servers.known


def _list(options: argparse.Namespace) -> int:
    known = _known()
    for name in known.names():
        print(f"{name:24} {why_silent(known.find(name)) or 'answers'}")
    return 0


def _add(options: argparse.Namespace) -> int:
    print(f"added as {_known().add(options.file)}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    _known().remove(options.name)
    print(f"{options.name} is forgotten")
    return 0
