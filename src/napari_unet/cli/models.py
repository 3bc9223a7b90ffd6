"""The command `napari-unet models`: lists and manages the models on this computer."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from napari_unet.cli.terminal import follow
from napari_unet.models.exchange.formats import FORMATS
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.service.segmentation import SegmentationService


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add list, show, revert, remove, reproduce, resume, import and export to the parser."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="all versions; *: its NAME means it").set_defaults(run=_list)
    for name, run, what in (
        ("show", _show, "what a model file says of itself"),
        ("revert", _revert, "go back to the parent version"),
        ("remove", _remove, "delete one version"),
        ("reproduce", _reproduce, "fine-tune one again; are the weights the same?"),
        ("resume", _resume, "go on with a fine-tune of it that was cut short"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("model")
        command.set_defaults(run=run)
    load = commands.add_parser("import", help="add a model file, or a zip of bioimage.io")
    load.add_argument("file", type=Path)
    load.add_argument("--name")
    load.set_defaults(run=_import)
    export = commands.add_parser("export", help="write a version to a file")
    export.add_argument("model")
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("file", type=Path, nargs="?", help="the ending says the format")
    target.add_argument("-o", "--out", type=Path, metavar="FILE", help="the same")
    export.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="model: for napari-unet; onnx; bioimageio: a zip for other programs",
    )
    export.add_argument(
        "--half", action="store_true", help="store the weights of a model in 16 bits"
    )
    export.set_defaults(run=_export)


def _list(options: argparse.Namespace) -> int:
    store = ModelStore()
    standing = {store.find(name).reference for name in store.names()}
    for name in store.names(refused=True):
        for model in store.versions(name):
            mark = "*" if model.reference in standing else " "
            origin = "ships with napari-unet" if model.shipped else model.header.created
            words = ", ".join([*["refused"] * model.refused, *model.header.trained_on])
            print(f"{mark} {model.reference:24} {origin:28} {words}")
    return 0


def _show(options: argparse.Namespace) -> int:
    model = ModelStore().find(options.model)
    content: dict[str, object] = {"file": str(model.path), "sha256": model.sha256()}
    print(json.dumps(content | asdict(model.header), indent=2))
    return 0


def _import(options: argparse.Namespace) -> int:
    return _say("imported as", ModelStore().import_file(options.file, options.name))


def _export(options: argparse.Namespace) -> int:
    path = ModelStore().export(
        options.model, options.out or options.file, half=options.half, form=options.format
    )
    print(f"exported to {path}")
    return 0


def _revert(options: argparse.Namespace) -> int:
    return _say("back to", ModelStore().revert(options.model))


def _remove(options: argparse.Namespace) -> int:
    return _say("removed", ModelStore().remove(options.model))


def _reproduce(options: argparse.Namespace) -> int:
    service = SegmentationService()
    model = service.store.find(options.model)
    same = follow(service.reproduce(model))
    print(f"{model.reference}: {'the same weights, bit for bit' if same else 'other weights'}")
    return 0 if same else 1


def _resume(options: argparse.Namespace) -> int:
    done = follow(SegmentationService().resume(options.model, keep=True))
    kept = "" if done.verdict.accepted else f"; not used: {done.verdict.why}"
    print(f"{done.model.reference}: {done.steps} steps -> {done.model.path}{kept}")
    return 0


def _say(what: str, model: ModelVersion) -> int:
    print(f"{what} {model.reference}")
    return 0
