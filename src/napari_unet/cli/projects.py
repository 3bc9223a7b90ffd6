"""The command `napari-unet project`: a folder of images, and how far each of them is."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from napari_unet.cli.terminal import Notes, WrongCall, follow, show_line
from napari_unet.config import PredictConfig
from napari_unet.io.outputs import NotOursError, check_replaceable
from napari_unet.jobs import Job
from napari_unet.models.store import ModelStore
from napari_unet.projects.folder import folder_of
from napari_unet.projects.joining import folder_for, join
from napari_unet.projects.manifest import STATES
from napari_unet.projects.project import Project
from napari_unet.projects.rest import RestDone, segment_rest
from napari_unet.projects.scoring import curve, curve_words, refused_in
from napari_unet.projects.table import TABLE, write_cells
from napari_unet.service.files import summary
from napari_unet.service.segmentation import SegmentationService


def add_commands(
    parser: argparse.ArgumentParser,
    add_options: Callable[[argparse.ArgumentParser], None],
    config_of: Callable[[argparse.Namespace], PredictConfig],
) -> None:
    """Add segment, status, table and join to the parser of `project`.

    Parameters
    ----------
    parser
        Of `project`.
    add_options
        Adds the options that say how images are segmented.
    config_of
        Reads them.
    """
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], what: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what)
        command.set_defaults(run=run)
        return command

    segment = add(
        "segment", lambda options: _segment(options, config_of), "all that nobody corrected"
    )
    status = add("status", _status, "how far each image is")
    table = add("table", _table, "all cells of all images, as one csv")
    for command in (segment, status, table):
        command.add_argument(
            "folder", type=Path, metavar="FOLDER", help="of images, or a plate in OME-Zarr"
        )
    add_options(segment)
    # By default it is the one that was chosen in the dock.
    segment.set_defaults(model=None)
    table.add_argument("-o", "--out", type=Path, help=f"{TABLE} in the folder by default")
    table.add_argument("--overwrite", action="store_true", help="replace what is there")
    joining = add("join", _join, "two projects in a new folder")
    for name in ("first", "second"):
        joining.add_argument(name, type=Path, metavar=name.upper())
    joining.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="FIRST-and-SECOND by default"
    )


def _open(options: argparse.Namespace) -> Project:
    project = Project(*folder_of([options.folder]))
    for note in project.notes:
        print(f"napari-unet: {note}", file=sys.stderr)
    return project


def _segment(
    options: argparse.Namespace, config_of: Callable[[argparse.Namespace], PredictConfig]
) -> int:
    project, service, say = _open(options), SegmentationService(), Notes()
    config = config_of(options)

    def tell(done: RestDone) -> None:
        show_line()
        outcome = done.outcome
        for note in outcome.notes:
            say(note)
        if outcome.error:
            print(f"napari-unet: {outcome.error}", file=sys.stderr)
        elif done.taken:
            cells = f"{outcome.n_cells} cells ({outcome.compute}, {outcome.seconds:.3g} s)"
            print(f"{done.name}: {cells}", flush=True)
        else:
            print(f"{done.name}: was corrected meanwhile, so it stays as it is", flush=True)

    version = service.store.find(options.model or project.manifest.model or "nuclei")
    if not project.to_segment(version.reference):
        print(f"nothing is left to segment with {version.reference}", file=sys.stderr)
        return 0
    if options.model is None:
        print(f"napari-unet: with {version.reference}", file=sys.stderr)
    outcomes = follow(segment_rest(service, project, version, config, tell))
    told = summary(outcomes)
    if told:
        print(f"napari-unet: {told}", file=sys.stderr)
    return 1 if told else 0


def _status(options: argparse.Namespace) -> int:
    project = _open(options)
    names = project.names
    count = Counter(project.entry(name).state for name in names)
    print(", ".join(f"{count[state]} {state}" for state in STATES), f"of {len(names)} images")
    for name in names:
        entry = project.entry(name)
        said = [f"{entry.n_cells} cells with {entry.model}"] if entry.model else []
        said += [f"{entry.n_corrected} corrected"] if entry.n_corrected else []
        said += [] if entry.doubt is None else [f"doubt {entry.doubt:.2f}"]
        said += ["held out"] if entry.held_out else []
        print(f"{entry.state:10} {name}  {', '.join(said)}".rstrip())
    points = curve(project)
    words = curve_words(points, refused_in(points, ModelStore()))
    if words:
        print(words)
    return 0


def _table(options: argparse.Namespace) -> int:
    project, service = _open(options), SegmentationService()
    path = options.out or project.folder / TABLE
    failed: list[str] = []

    def work(job: Job[int]) -> int:
        return write_cells(job, project, path, failed.append, overwrite=options.overwrite)

    try:
        check_replaceable(path, overwrite=options.overwrite)
    except NotOursError as error:
        raise WrongCall(f"{error}, or add --overwrite") from error
    n_cells = follow(service.submit("measure all images", work))
    for sentence in failed:
        print(f"napari-unet: {sentence}", file=sys.stderr)
    print(f"{n_cells} cells -> {path}")
    return 1 if failed else 0


def _join(options: argparse.Namespace) -> int:
    out = options.out or folder_for(options.first, options.second)
    told = join(options.first, options.second, out)
    for sentence in told:
        print(f"napari-unet: {sentence}", file=sys.stderr)
    conflicts = f"; {len(told)} conflict{'' if len(told) == 1 else 's'}, both kept" if told else ""
    print(f"{options.first} and {options.second} -> {out}{conflicts}")
    return 0
