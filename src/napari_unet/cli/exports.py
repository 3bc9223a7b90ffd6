"""The command `napari-unet export`: writes labels in the formats of other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unet.cli.terminal import Notes, WrongCall
from napari_unet.io.exports.formats import FORMATS, TABLE
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.images import read_image, stem_of
from napari_unet.io.label_imports import read_label_file, read_labels_of
from napari_unet.service.exports import ExistsError, check_new, export, read_classes


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export` to its parser."""
    parser.add_argument(
        "labels", type=Path, metavar="LABELS", help="one file, as segment writes it"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ending says the format")
    parser.add_argument(
        "--format",
        choices=sorted([*FORMATS, TABLE]),
        help="tracks: a csv for napari; ctc: a folder as in the Cell Tracking Challenge",
    )
    parser.add_argument(
        "--axes", type=str.upper, help="one letter of TZYX for each axis; with --image, of that"
    )
    parser.add_argument(
        "--image", type=Path, help="whose cells they are: for ROIs, and for a table's intensities"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="TABLE", help="a csv with the columns label and class"
    )
    parser.add_argument(
        "--objects",
        choices=("detection", "annotation"),
        default="detection",
        help="what the cells are in QuPath; annotations can be edited",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    try:
        check_new(options.out, options.format, overwrite=options.overwrite)
    except ExistsError as error:
        raise WrongCall(f"{error}, or add --overwrite") from error
    except ValueError as error:
        raise WrongCall(str(error)) from error
    say = Notes()
    image = None if options.image is None else read_image(options.image, options.axes)
    if image is None:
        source = read_label_file(options.labels, axes=options.axes)
    else:
        source = read_labels_of(options.labels, image)
    labelled = Labelled(
        source,
        {} if options.classes is None else read_classes(options.classes),
        stem_of(options.labels) if options.image is None else options.image.name,
        options.objects,
    )
    export(
        options.out,
        labelled,
        options.format,
        image,
        overwrite=options.overwrite,
        warn=lambda sentence: say(f"{options.image}: {sentence}"),
    )
    print(f"{options.labels} -> {options.out}")
    return 0
