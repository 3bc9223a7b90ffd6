"""The command line: demo, segment, train, evaluate, export, models, corrections, project, serve.

Exit status: 0 on success, 2 on a wrong call, 1 on any other failure. Results go to standard
output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_unet.cli import corrections as cli_corrections
from napari_unet.cli import exports as cli_exports
from napari_unet.cli import models as cli_models
from napari_unet.cli import projects as cli_projects
from napari_unet.cli import serve as cli_serve
from napari_unet.cli import servers as cli_servers
from napari_unet.cli.terminal import (
    Notes,
    WrongCall,
    follow,
    quiet_without_reader,
    show_count,
    show_line,
)
from napari_unet.config import FinetuneConfig, PredictConfig, train_config
from napari_unet.core.checks import Unfit
from napari_unet.core.json_types import JsonObject
from napari_unet.corrections.annotations import Annotated
from napari_unet.io.image_source import ImageSource
from napari_unet.io.outputs import NotOursError
from napari_unet.jobs import JobCancelled, JobFailed, sentence
from napari_unet.learning.training import NewModel
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.service.files import FileDone, plan_files, summary
from napari_unet.service.segmentation import SegmentationService

_CHANNEL = "that the model sees, from 0"
_SPLIT = "each separate piece of the labels is a cell, whatever its number"
_SERVER = "do it on a server: its name, or the file that napari-unet serve wrote"


_FAILURES = (JobFailed, ValueError, OSError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    with quiet_without_reader():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options) or 0
        return status
    except WrongCall as error:
        print(f"napari-unet: {error}", file=sys.stderr)
        return 2
    except _FAILURES as error:
        print(f"napari-unet: {sentence(error)}", file=sys.stderr)
    except (KeyboardInterrupt, JobCancelled):
        print("napari-unet: stopped; nothing that was saved is lost", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet", description="Segment cells with the 2015 U-Net, and teach it yours."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole story on a real image")
    demo.add_argument("-o", "--out", type=Path, default=Path("napari-unet-demo"))
    demo.add_argument("--headless", action="store_true", help="write pictures, open no window")
    demo.set_defaults(run=_demo)

    segment = commands.add_parser("segment", help="images in, labels out")
    segment.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    segment.add_argument("-o", "--out", type=Path, required=True, help="tif, zarr, or a folder")
    _add_predict_options(segment)
    _add_reading_options(segment)
    segment.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, for zarr to zarr"
    )
    segment.add_argument(
        "--link",
        choices=("none", "z", "t", "zt"),
        default="none",
        help="one id for each cell along z, t or both",
    )
    segment.add_argument(
        "--table", action="store_true", help="measure the cells: IMAGE_cells.csv beside the labels"
    )
    segment.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files and folders that napari-unet did not make, too",
    )
    segment.add_argument("--json", action="store_true", help="one JSON object per image")
    segment.add_argument("--server", metavar="NAME|FILE", help=_SERVER)
    segment.set_defaults(run=_segment)

    train = commands.add_parser("train", help="a model from images and labels, or corrections")
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="with --labels")
    source.add_argument("--corrections", metavar="MODEL|DIR", help="all corrections of a model")
    train.add_argument("--labels", type=Path, metavar="DIR")
    _add_reading_options(train)
    train.add_argument("--channel", type=_not_negative, metavar="N", help=_CHANNEL)
    train.add_argument("--split", action="store_true", help=_SPLIT)
    train.add_argument("--name", required=True, help="the model to make")
    train.add_argument("--from", dest="start", metavar="MODEL", help="go on from this model")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=_positive(int))
    budget.add_argument(
        "--minutes",
        type=_number_or_auto,
        metavar="M|auto",
        help="10 by default; auto: until it stops improving, at most 10",
    )
    train.add_argument("--dims", type=int, choices=(2, 3), default=2, help="3: a model of stacks")
    train.add_argument(
        "--anisotropy",
        type=_positive(float),
        metavar="R",
        help="with --dims 3: distance of the planes over the size of a pixel",
    )
    train.add_argument(
        "--sparse", action="store_true", help="planes without a label were not looked at"
    )
    train.add_argument("--preset", choices=("paper", "fast"), default="fast")
    train.add_argument("--seed", type=_not_negative, default=0)
    train.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    train.add_argument("--trained-on", help="what the images are, in words, for the model file")
    train.add_argument("--server", metavar="NAME|FILE", help=_SERVER)
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="score a model on labelled images")
    evaluate.add_argument("--images", type=Path, required=True)
    evaluate.add_argument("--labels", type=Path, required=True)
    _add_reading_options(evaluate)
    evaluate.add_argument("--split", action="store_true", help=_SPLIT)
    _add_predict_options(evaluate)
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    evaluate.set_defaults(run=_evaluate)

    cli_exports.add_command(commands.add_parser("export", help="labels for other programs"))
    cli_models.add_commands(commands.add_parser("models", help="the models on this computer"))
    corrections = commands.add_parser("corrections", help="what a model's fine-tunes learn from")
    cli_corrections.add_commands(corrections)
    project = commands.add_parser("project", help="a folder of images, and how far each is")
    cli_projects.add_commands(project, _add_predict_options, _predict_config)
    servers = commands.add_parser("servers", help="computers that work for this one")
    cli_servers.add_commands(servers)
    cli_serve.add_command(commands.add_parser("serve", help="work for other computers"))
    return parser


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add options that say how an image file is read, for files that do not say it."""
    parser.add_argument("--axes", type=_axes, help="one letter of TZCYX for each axis of an image")
    parser.add_argument(
        "--series", type=_not_negative, metavar="N", help="which image of a file of several, from 0"
    )
    parser.add_argument(
        "--rgb", action="store_true", help="the channels are red, green and blue of a photograph"
    )


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nuclei", metavar="NAME|FILE")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--tile", type=_positive(int), metavar="PX", help="largest input tile")
    parser.add_argument(
        "--diameter",
        type=_diameter,
        default="auto",
        metavar="PX|auto|native",
        help="of the cells in the images; native: the model sees the images at their own size",
    )
    parser.add_argument(
        "--channel",
        type=_channel,
        default="auto",
        metavar="N|stain|all|auto",
        help="that the model sees, from 0; stain: the nuclear stain of tissue in colour",
    )
    parser.add_argument(
        "--in-3d", action="store_true", help="look at stacks from three sides, one id for each cell"
    )
    parser.add_argument(
        "--anisotropy",
        type=_positive(float),
        metavar="R",
        help="with --in-3d: distance of the planes over the size of a pixel",
    )


def _demo(options: argparse.Namespace) -> int:
    from napari_unet.demo import run_headless, run_in_viewer

    return run_headless(options.out) if options.headless else run_in_viewer(options.out)


def _segment(options: argparse.Namespace) -> int:
    from napari_unet.io.images import list_images

    images = list_images(options.images)
    try:
        files = plan_files(
            images,
            options.out,
            table=options.table,
            axes=options.axes,
            series=options.series,
            rgb=options.rgb,
            overwrite=options.overwrite,
        )
    except NotOursError as error:
        raise WrongCall(f"{error}, or add --overwrite") from error
    except ValueError as error:
        raise WrongCall(str(error)) from error
    service = _service(options)
    model = service.store.find(options.model)

    say = Notes()

    def tell(done: FileDone) -> None:
        show_line()
        for note in done.notes:
            say(note)
        if done.error:
            print(f"napari-unet: {done.error}", file=sys.stderr)
        else:
            print(_line(done, model, as_json=options.json), flush=True)

    job = service.segment_files(files, model, _predict_config(options), tell, options.scheduler)
    outcomes = follow(job)
    told = summary(outcomes)
    if told and len(files) > 1:
        # Printed again at the end, because the errors may have been printed a long time ago.
        print(f"napari-unet: {told}", file=sys.stderr)
    return 1 if told else 0


def _line(done: FileDone, model: ModelVersion, *, as_json: bool) -> str:
    """Return the result for one image as one line of text or JSON."""
    path, out, seconds = done.job.image, done.job.labels, round(done.seconds, 3)
    table = {} if done.job.table is None else {"table": str(done.job.table)}
    if not as_json:
        wrote = " and ".join([str(out), *table.values()])
        how = f"; {done.look.words}" if done.look.words else ""
        return f"{path} -> {wrote}: {done.n_cells} cells ({done.compute}, {seconds} s){how}"
    line = {"image": str(path), "labels": str(out), **table, "n_cells": done.n_cells}
    line |= {"diameter_px": done.look.diameter_px, "channel": done.look.channel}
    where = {"model": model.reference, "compute": done.compute, "seconds": seconds}
    return json.dumps(line | where)


def _train(options: argparse.Namespace) -> int:
    stacks: JsonObject = {}
    if options.dims == 3:
        stacks = {"dims": 3, "anisotropy": options.anisotropy or 1.0}
    elif options.anisotropy:
        raise WrongCall("--anisotropy is for stacks; give --dims 3 as well, or leave it out")
    if stacks and options.start:
        raise WrongCall("--from goes on with a model as it is; leave --dims out")
    annotated, words = _annotated(options)
    auto = options.minutes == "auto"
    config: FinetuneConfig = replace(
        train_config(
            options.preset,
            steps=options.steps,
            seconds="auto" if auto else options.minutes and 60 * options.minutes,
            device=options.device,
            seed=options.seed,
        ),
        channel=options.channel,
    )
    # If a channel was chosen, the model sees only that one.
    has_colours = options.channel is None and any("C" in item.axes for item in annotated)
    colours = 3 if has_colours else 1
    shape: JsonObject = {}
    if options.preset == "paper":
        # The paper on stacks uses 3 poolings and begins with 32 channels (Çiçek et al. 2016,
        # figure 2).
        depth, width = (3, 32) if stacks else (4, 64)
        shape = {"depth": depth, "width": width, "dropout": 0.5, "distance": False}
    new = NewModel(in_channels=colours, **shape, **stacks)
    service = _service(options)
    words = options.trained_on or words
    job = service.train(annotated, options.name, config, options.start or new, [words])
    done = follow(job, more=lambda seconds: f"--minutes {seconds / 60:.3g}")
    print(f"{done.model.reference}: {done.steps} steps, {job.seconds:.0f} s -> {done.model.path}")
    return 0


def _annotated(options: argparse.Namespace) -> tuple[list[Annotated], str]:
    """Return the annotated images that `train` learns from, and what they are in words."""
    if (options.images is None) != (options.labels is None):
        raise WrongCall("--images and --labels go together; give both, or --corrections alone")
    if options.images is not None:
        from napari_unet.corrections.labelled_folders import read_annotated

        say, read = Notes(), _reader(options)

        def read_clear(path: Path) -> ImageSource:
            image = read(path)
            try:
                image.check_channels(options.channel)
            except Unfit as error:
                raise ValueError(f"{path}: {error.for_files}") from error
            if image.words(options.channel):
                say(f"{path}: {image.words(options.channel)}")
            return image

        annotated = read_annotated(
            options.images,
            options.labels,
            sparse=options.sparse,
            read=read_clear,
            split=options.split,
        )
        return annotated, f"{len(annotated)} labelled images in {options.images.name}"
    from napari_unet.corrections.collection import find_collection

    collection = find_collection(ModelStore(), options.corrections)
    entries = collection.entries()
    if not entries:
        raise ValueError(f"{collection.folder} holds no corrections; correct an image first")
    count = f"{len(entries)} correction{'' if len(entries) == 1 else 's'}"
    words = f"{count} of {Path(options.corrections).name}"
    return [collection.read(entry) for entry in entries], words


def _evaluate(options: argparse.Namespace) -> int:
    from napari_unet.corrections.labelled_folders import list_pairs
    from napari_unet.service.evaluation import evaluate

    pairs = list_pairs(options.images, options.labels)
    scores = evaluate(
        SegmentationService(),
        pairs,
        options.model,
        _predict_config(options),
        show_count,
        read=_reader(options),
        split=options.split,
        told=Notes(),
    )
    if options.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name:13} {value:.4g}")
    return 0


def _reader(options: argparse.Namespace) -> Callable[[Path], ImageSource]:
    """Return a function that reads an image file as the options say."""
    from napari_unet.io.images import read_image

    return partial(read_image, axes=options.axes, series=options.series, rgb=options.rgb)


def _predict_config(options: argparse.Namespace) -> PredictConfig:
    if options.anisotropy and not options.in_3d:
        raise WrongCall("--anisotropy is for stacks; give --in-3d as well, or leave it out")
    return PredictConfig(
        tile_px=options.tile,
        device=options.device,
        precision=options.precision,
        diameter_px=options.diameter,
        link=getattr(options, "link", "none"),
        in_3d=options.in_3d,
        anisotropy=options.anisotropy,
        channel=options.channel,
    )


def _service(options: argparse.Namespace) -> SegmentationService:
    service = SegmentationService()
    if options.server is not None:
        service.servers.use(service.servers.known.find(options.server))
        atexit.register(service.close)
    return service


def _axes(text: str) -> str:
    axes = text.upper()
    if set(axes) - set("TZCYX") or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise argparse.ArgumentTypeError(
            f"use each of T, Z, C at most once, and Y and X; not {text}"
        )
    return axes


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"give 0 or more, not {text}")
    return value


_not_negative.__name__ = "int"  # argparse shows the name in its error message


def _number_or_auto(text: str) -> float | str:
    return text if text == "auto" else float(_positive(float)(text))


def _diameter(text: str) -> float | str | None:
    words = {"auto": "auto", "native": None}
    return words[text] if text in words else float(_positive(float)(text))


def _channel(text: str) -> int | str | None:
    words = {"auto": "auto", "all": None, "stain": "stain"}
    return words[text] if text in words else _not_negative(text)


_channel.__name__ = "channel"


def _positive(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"give a number above 0, not {text}")
        return value

    parse.__name__ = kind.__name__  # argparse shows the name in its error message
    return parse


if __name__ == "__main__":
    sys.exit(main())
