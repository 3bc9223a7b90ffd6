import csv
import json
import os
import signal
import subprocess
import sys
import threading

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.cli import program as cli_program
from napari_unet.io.images import read_image, write_labels
from napari_unet.learning.training import NewModel
from napari_unet.service.segmentation import SegmentationService

pytestmark = pytest.mark.usefixtures("nuclei")
EXACT = ("--device", "cpu", "--precision", "float32")


@pytest.fixture
def image(tmp_path, blobs):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(
        path, blobs()[0], imagej=True, resolution=(4, 2), metadata={"unit": "um", "axes": "YX"}
    )
    return path


@pytest.fixture
def folders(tmp_path, blobs):
    """Folders of two images and their labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for seed, name in enumerate("ab"):
        pixels, truth = blobs(seed)
        iio.imwrite(images / f"{name}.png", pixels)
        write_labels(labels / f"{name}.tif", truth, "YX")
    return images, labels


def names(folder):
    return sorted(os.listdir(folder))


# segment


def test_one_image_to_one_file(call, image, tmp_path, blobs):
    out = tmp_path / "new" / "labels.tif"
    status, stdout, stderr = call("segment", image, "-o", out)
    assert (status, stderr) == (0, "")
    assert f"{image} -> {out}: 12 cells (" in stdout
    labels, truth = read_image(out), blobs()[1]
    assert (labels.axes, labels.pixel_size_um) == ("YX", (0.5, 0.25))
    assert labels.data.shape == truth.shape
    assert labels.data.max() == truth.max() == 12
    assert ((labels.data > 0) == (truth > 0)).mean() > 0.99


def test_several_images_to_a_folder(call, folders, image, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = call("segment", folders[0], image, "-o", out)
    assert (status, stderr) == (0, "")
    assert names(out) == ["a_labels.tif", "b_labels.tif", "cells_labels.tif"]
    assert len(stdout.splitlines()) == 3


def test_one_json_object_for_each_image(call, folders, tmp_path):
    status, stdout, _ = call("segment", folders[0], "-o", tmp_path / "out", "--json")
    assert status == 0
    lines = [json.loads(line) for line in stdout.splitlines()]
    for name, line in zip("ab", lines, strict=True):
        assert line.keys() == {
            *("image", "labels", "n_cells", "model", "compute", "seconds"),
            *("diameter_px", "channel"),
        }
        assert (line["diameter_px"], line["channel"]) == (None, None)
        assert line["image"] == str(folders[0] / f"{name}.png")
        assert line["labels"] == str(tmp_path / "out" / f"{name}_labels.tif")
        assert line["n_cells"] == int(tifffile.imread(line["labels"]).max()) == 12
        assert line["model"] == "nuclei@1"
        assert line["seconds"] > 0


def test_what_fails_is_told_and_the_rest_is_done(call, folders, tmp_path):
    images = folders[0]
    (images / "a.png").write_bytes(b"broken")
    tifffile.imwrite(images / "c.tif", np.full((40, 50), np.nan, np.float32))
    out = tmp_path / "out"
    status, stdout, stderr = call("segment", images, "-o", out, "--json")
    assert status == 1
    assert names(out) == ["b_labels.tif"]
    assert [json.loads(line)["image"] for line in stdout.splitlines()] == [str(images / "b.png")]
    first, second, last, *again = stderr.splitlines()
    assert first.startswith(f"napari-unet: {images / 'a.png'} cannot be read as an image")
    assert second.startswith(f"napari-unet: {images / 'c.tif'}: the image holds no finite number")
    assert last == "napari-unet: 2 of 3 images failed; the others are done:"
    assert [f"napari-unet: {line}" for line in again] == [first, second]


def test_cells_are_linked_and_measured(call, tmp_path, blobs):
    stack = np.stack([blobs()[0]] * 3)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(4, 2),
        metadata={"unit": "um", "axes": "ZYX", "spacing": 3.0},
    )  # fmt: skip
    out = tmp_path / "out"
    status, stdout, _ = call("segment", path, "-o", out, *EXACT, "--link", "z", "--table", "--json")
    assert status == 0
    line = json.loads(stdout)
    assert line["n_cells"] == 12 == tifffile.imread(line["labels"]).max()
    assert line["table"] == str(out / "stack_cells.csv")
    with open(line["table"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == list(range(1, 13))
    labels = tifffile.imread(line["labels"])
    for row in rows:
        assert (row["z_first"], row["z_last"]) == ("0", "2")
        n_px = (labels == int(row["label"])).sum()
        assert float(row["volume"]) == pytest.approx(n_px * 3 * 0.5 * 0.25)
        assert (row["class"], row["unit"]) == ("cell", "um")
    status, _, stderr = call("segment", path, "-o", out, "--link", "t")
    assert status == 1
    assert "along T and the image has the axes ZYX" in stderr


def test_the_table_is_beside_the_labels(call, image, tmp_path):
    status, stdout, _ = call("segment", image, "-o", tmp_path / "l.tif", "--table")
    assert status == 0
    assert f"{image} -> {tmp_path / 'l.tif'} and {tmp_path / 'cells_cells.csv'}: 12" in stdout
    with open(tmp_path / "cells_cells.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12


def test_a_folder_may_be_segmented_into_itself_again(call, folders):
    for _ in range(2):
        assert call("segment", folders[0], "-o", folders[0])[0] == 0
        assert names(folders[0]) == ["a.png", "a_labels.tif", "b.png", "b_labels.tif"]


@pytest.mark.parametrize("name", ["out.tif", "out/cells_labels.tif", "out/cells_cells.csv"])
def test_what_is_not_ours_is_replaced_only_on_demand(call, image, tmp_path, name):
    other, out = tmp_path / name, tmp_path / name.partition("/")[0]
    other.parent.mkdir(exist_ok=True)
    other.write_text("a year of work")
    status, stdout, stderr = call("segment", image, "-o", out, "--table")
    assert (status, stdout) == (2, "")
    assert f"{other} is there already and was not made by napari-unet, so it is not" in stderr
    assert stderr.endswith("or add --overwrite\n")
    assert other.read_text() == "a year of work"
    for more in (["--overwrite"], []):  # then it is ours
        assert call("segment", image, "-o", out, "--table", *more)[0] == 0
    assert other.read_bytes() != b"a year of work"


def test_labels_that_cannot_be_written_are_told(call, image, tmp_path):
    (tmp_path / "file").write_text("")
    status, stdout, stderr = call("segment", image, "-o", tmp_path / "file" / "labels.tif")
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"napari-unet: {image}: the file system says:")
    assert len(stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("tile", [22, 30, 41, 2000])
def test_the_tile_does_not_change_the_labels(call, image, tmp_path, tile):
    for name, options in (("whole", ()), ("tiled", ("--tile", tile))):
        assert call("segment", image, "-o", tmp_path / f"{name}.tif", *EXACT, *options)[0] == 0
    whole, tiled = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("whole", "tiled"))
    assert whole.any()
    np.testing.assert_array_equal(tiled, whole)


def test_the_diameter_can_be_looked_for(call, tmp_path, blobs):
    small, truth = blobs(shape=(112, 120))
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, np.kron(small, np.ones((4, 4), np.uint8)))
    out = tmp_path / "l.tif"
    assert call("segment", large, "-o", out, *EXACT, "--diameter", "auto")[0] == 0
    assert tifffile.imread(out).max() == truth.max()
    tifffile.imwrite(large, np.kron(small, np.ones((8, 8), np.uint8)))
    _, told, _ = call("segment", large, "-o", out, *EXACT)
    assert "; shown to the model at a" in told
    _, told, _ = call(
        "segment", large, "-o", out, *EXACT, "--diameter", "native", "--channel", "all"
    )
    assert "shown" not in told


def test_axes_can_be_named(call, tmp_path, blobs):
    stack = np.stack([blobs()[0]] * 3)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    out = tmp_path / "labels.tif"
    for axes, shape in ((None, (3, 72, 80)), ("CYX", (72, 80)), ("tyx", (3, 72, 80))):
        options = () if axes is None else ("--axes", axes)
        options += ("--channel", 0) if axes == "CYX" else ()
        assert call("segment", tmp_path / "stack.tif", "-o", out, *options)[0] == 0
        labels = read_image(out)
        assert labels.data.shape == shape
        assert labels.axes == {None: "ZYX", "CYX": "YX", "tyx": "TYX"}[axes]
    status, _, stderr = call("segment", tmp_path / "stack.tif", "-o", out, "--axes", "YX")
    assert status == 1
    assert "the axes 'YX' name 2 axes and the image has 3" in stderr


def test_a_model_by_name_version_or_file(call, image, add_model, nuclei, tmp_path):
    add_model("nuclei", postprocess={"min_size_px": 10**6})
    counts = []
    for model in ("nuclei", "nuclei@1", nuclei.path):
        status, stdout, _ = call(
            "segment", image, "-o", tmp_path / "l.tif", "--model", model, "--json"
        )
        assert status == 0
        counts.append((json.loads(stdout)["n_cells"], json.loads(stdout)["model"]))
    assert counts == [(0, "nuclei@2"), (12, "nuclei@1"), (12, str(nuclei.path))]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "none"), "there is no model 'none'; choose one of: nuclei@1, or give the"),
        (("--model", "none.safetensors"), "there is no file none.safetensors; give the path of"),
        (("--tile", "21"), "a tile of 21 px is too small for this model; give 22 px or more"),
    ],
)
def test_failures_say_what_is_needed(call, image, tmp_path, options, words):
    status, stdout, stderr = call("segment", image, "-o", tmp_path / "l.tif", *options)
    assert (status, stdout) == (1, "")
    assert words in stderr
    assert stderr.startswith("napari-unet: ")
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "l.tif").exists()


def test_images_that_are_not_there(call, tmp_path):
    status, _, stderr = call("segment", tmp_path / "none.tif", "-o", tmp_path / "l.tif")
    assert status == 1
    assert stderr == (
        f"napari-unet: there is no file or folder {tmp_path / 'none.tif'}; "
        "give the path of an image\n"
    )


def test_wrong_calls_end_with_2_before_any_work(call, folders, image, tmp_path):
    before = image.read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.tif").write_bytes(before)
    for arguments, words in (
        ((folders[0], "-o", tmp_path / "l.tif"), "2 images and one file"),
        ((image, "-o", tmp_path / "l.png"), "labels are written as tif or zarr, not .png"),
        ((image, "-o", tmp_path / "l.zarr"), "is no zarr store; give a .tif or a folder for -o"),
        ((image, "-o", image), "cells.tif is one of the images; give another place for the"),
        (
            (folders[0], tmp_path / "other", "-o", tmp_path / "out"),
            "a_labels.tif; segment them into two folders",
        ),
    ):
        status, stdout, stderr = call("segment", *arguments)
        assert (status, stdout) == (2, "")
        assert words in stderr
    assert image.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("segment",),
        ("segment", "i.tif"),
        ("segment", "i.tif", "-o", "l.tif", "--device", "tpu"),
        ("segment", "i.tif", "-o", "l.tif", "--tile", "0"),
        ("segment", "i.tif", "-o", "l.tif", "--tile", "1.5"),
        ("segment", "i.tif", "-o", "l.tif", "--diameter", "large"),
        ("segment", "i.tif", "-o", "l.tif", "--diameter", "-2"),
        ("train", "--images", "i", "--labels", "l"),
        (
            "train",
            "--images",
            "i",
            "--labels",
            "l",
            "--name",
            "n",
            "--steps",
            "1",
            "--minutes",
            "1",
        ),
        ("train", "--images", "i", "--labels", "l", "--name", "n", "--steps", "-1"),
        ("train", "--images", "i", "--labels", "l", "--name", "n", "--minutes", "nan"),
        ("train", "--images", "i", "--labels", "l", "--name", "n", "--minutes", "inf"),
        ("train", "--images", "i", "--labels", "l", "--name", "n", "--minutes", "long"),
        ("train", "--images", "i", "--labels", "l", "--name", "n", "--preset", "slow"),
        ("train", "--name", "n"),
        ("train", "--labels", "l", "--name", "n"),
        ("train", "--images", "i", "--corrections", "c", "--name", "n"),
        ("corrections",),
        ("corrections", "list"),
        ("corrections", "show", "nuclei"),
        ("corrections", "export", "nuclei"),
        ("corrections", "remove", "nuclei"),
        ("evaluate", "--images", "i"),
        ("models",),
        ("models", "show"),
        ("models", "export", "nuclei"),
    ],
    ids=" ".join,
)
def test_what_is_no_call_ends_with_2(call, arguments):
    status, stdout, stderr = call(*arguments)
    assert (status, stdout) == (2, "")
    assert "error:" in stderr


def test_help_names_the_commands(call):
    status, stdout, _ = call("--help")
    assert status == 0
    for command in ("demo", "segment", "train", "evaluate", "models", "corrections"):
        assert command in stdout


def test_the_wrong_number_is_named(call):
    _, _, stderr = call("segment", "i.tif", "-o", "l.tif", "--tile", "many")
    assert "invalid int value: 'many'" in stderr
    _, _, stderr = call("segment", "i.tif", "-o", "l.tif", "--tile", "-3")
    assert "give a number above 0, not -3" in stderr


# train


@pytest.fixture
def tiny(monkeypatch):
    """Networks from scratch are tiny; tells what was asked for."""
    asked = []

    def new(**kwargs):
        asked.append(kwargs)
        tiny = {"depth": 1, "width": 2, "dropout": 0.0, "distance": kwargs.get("distance", True)}
        return NewModel(**{**kwargs, **tiny})

    monkeypatch.setattr(cli_program, "NewModel", new)
    return asked


def train(call, folders, *options):
    images, labels = folders
    return call("train", "--images", images, "--labels", labels, *options)


@pytest.mark.slow
def test_train_makes_a_model_that_segments_by_name(call, folders, image, tmp_path, tiny, store):
    status, stdout, stderr = train(
        call, folders, "--name", "mine", "--steps", 3, "--seed", 5, "--device", "cpu"
    )
    assert (status, stderr) == (0, "")
    model = store.find("mine")
    assert stdout.startswith("mine@1: 3 steps, ")
    assert stdout.endswith(f" s -> {model.path}\n")
    assert (model.header.steps, model.header.seed) == (3, 5)
    assert model.header.trained_on == ("2 labelled images in images",)
    assert model.header.settings["seconds"] is None
    assert tiny == [{"in_channels": 1}]
    assert call("segment", image, "-o", tmp_path / "l.tif", "--model", "mine")[0] == 0
    assert tifffile.imread(tmp_path / "l.tif").shape == (72, 80)


@pytest.mark.slow
def test_train_goes_on_from_a_model(call, folders, nuclei, store):
    options = ("--name", "nuclei", "--from", "nuclei", "--steps", 1, "--trained-on", "cells, CC0")
    status, stdout, _ = train(call, folders, *options)
    assert status == 0
    assert stdout.startswith("nuclei@2: 1 steps")
    child = store.find("nuclei")
    assert child.header.parent == nuclei.sha256()
    assert child.header.trained_on == ("cells, CC0",)


def test_the_papers_preset(call, folders, store, tiny):
    status, _, _ = train(call, folders, "--name", "paper", "--preset", "paper", "--steps", 1)
    assert status == 0
    header = store.find("paper").header
    assert (header.settings["optimiser"], header.settings["tile_px"]) == ("sgd", 572)
    assert tiny[-1] == {
        "depth": 4,
        "width": 64,
        "dropout": 0.5,
        "in_channels": 1,
        "distance": False,
    }


@pytest.fixture
def stacks(tmp_path, blobs):
    """Folders of a stack and its labels, of which two planes of five were painted."""
    images, labels = tmp_path / "stacks", tmp_path / "painted"
    images.mkdir()
    labels.mkdir()
    image, truth = blobs()
    painted = np.zeros((5, *truth.shape), np.int32)
    painted[[1, 4]] = truth
    tifffile.imwrite(images / "a.tif", np.stack([image] * 5), imagej=True, metadata={"axes": "ZYX"})
    write_labels(labels / "a.tif", painted, "ZYX")
    return images, labels


def test_a_model_of_stacks_from_painted_planes(call, stacks, store, tiny, tmp_path):
    options = ("--dims", 3, "--anisotropy", 2.5, "--sparse", "--steps", 1, "--device", "cpu")
    status, _, stderr = train(call, stacks, "--name", "deep", *options)
    assert (status, len(stderr.splitlines())) == (0, 1)
    assert "a.tif: read as 5 planes (Z, Y, X)" in stderr
    assert tiny == [{"in_channels": 1, "dims": 3, "anisotropy": 2.5}]
    assert store.find("deep").header.for_stacks
    status, stdout, _ = call(
        "segment", stacks[0], "-o", tmp_path / "out", "--model", "deep", *EXACT, "--json"
    )
    assert status == 0
    found = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    assert found.shape == (5, 72, 80)
    assert json.loads(stdout)["n_cells"] == len(np.unique(found)) - (found == 0).any()


def test_a_plane_for_a_model_of_stacks_is_told_so(call, image, store, add_model, tmp_path):
    add_model("deep", z_depth=0)
    status, _, stderr = call("segment", image, "-o", tmp_path / "l.tif", "--model", "deep")
    assert status == 1
    assert "deep@1 works on stacks and the image has the axes YX, no Z; give a stack" in stderr


def test_options_of_stacks_that_do_not_fit(call, stacks):
    for options, words in (
        (("--anisotropy", 2), "--anisotropy is for stacks; give --dims 3 as well"),
        (("--dims", 3, "--from", "nuclei"), "--from goes on with a model as it is"),
    ):
        status, _, stderr = train(call, stacks, "--name", "x", *options)
        assert status == 2
        assert words in stderr


def test_minutes_limit_the_time(call, folders, store, tiny):
    status, _, _ = train(call, folders, "--name", "short", "--minutes", 0.001)
    assert status == 0
    assert store.find("short").header.settings["seconds"] == pytest.approx(0.06)


def test_training_until_it_stops_improving(call, folders, store, tiny, slow_machine):
    slow_machine(30.0)
    status, _, stderr = train(call, folders, "--name", "open", "--minutes", "auto")
    assert status == 0
    assert store.find("open").header.settings["seconds"] == "auto"
    assert store.find("open").header.steps == 20, "ten minutes at most"
    (line,) = stderr.splitlines()
    assert line == (
        "napari-unet: warning: 10 minutes is enough for 20 steps on this computer; a fine-tune "
        "needs about 40: 22 minutes; give --minutes 22"
    )


def test_training_on_colours(call, folders, store, tiny, blobs):
    iio.imwrite(folders[0] / "a.png", np.stack([blobs(0)[0]] * 3, -1))
    assert train(call, folders, "--name", "rgb", "--steps", 1)[0] == 0
    assert store.find("rgb").header.architecture["in_channels"] == 3


def test_training_that_cannot_be(call, folders, store, blobs):
    labels = folders[1]
    for options, words in (
        (("--name", "my cells"), "'my cells' cannot be a model's name; use"),
        (("--name", "x", "--from", "none"), "there is no model 'none'"),
    ):
        status, stdout, stderr = train(call, folders, *options)
        assert (status, stdout) == (1, "")
        assert words in stderr
    write_labels(labels / "b.tif", blobs(0, (40, 50))[1], "YX")
    status, _, stderr = train(call, folders, "--name", "x", "--steps", 1)
    assert status == 1
    assert "are 40 x 50 and the image is 72 x 80" in stderr
    (labels / "b.tif").unlink()
    status, _, stderr = train(call, folders, "--name", "x", "--steps", 1)
    assert status == 1
    assert "1 of 2 images have no labels" in stderr
    assert store.names() == ["nuclei"]


@pytest.mark.parametrize("of_model", [True, False])
def test_train_on_the_corrections_of_a_model(
    call, nuclei, corrections, store, tiny, tmp_path, of_model
):
    corrections.remove("b-0001")  # the one with a class
    source = "nuclei" if of_model else corrections.export(tmp_path / "mine").folder
    options = ("--name", "new", "--steps", 1, "--device", "cpu")
    status, stdout, stderr = call("train", "--corrections", source, *options)
    assert (status, stderr) == (0, "")
    assert stdout.startswith("new@1: 1 steps")
    assert tiny == [{"in_channels": 1}]
    named = "nuclei" if of_model else "mine"
    assert store.find("new").header.trained_on == (f"1 correction of {named}",)
    assert call("train", "--corrections", source, *options, "--from", "nuclei")[0] == 0
    assert store.find("new").header.parent == nuclei.sha256()


def test_corrections_that_cannot_be_trained_on(call, folders, tmp_path):
    status, stdout, stderr = call("train", "--corrections", "none", "--name", "x")
    assert (status, stdout) == (1, "")
    assert "there is no model or folder 'none'; choose one of: nuclei, or give the path" in stderr
    for source in ("nuclei", tmp_path):
        status, stdout, stderr = call("train", "--corrections", source, "--name", "x")
        assert (status, stdout) == (1, "")
        assert "holds no corrections; correct an image first" in stderr
    for options in (
        ("--images", folders[0]),
        ("--corrections", "nuclei", "--labels", folders[1]),
    ):
        status, stdout, stderr = call("train", *options, "--name", "x")
        assert (status, stdout) == (2, "")
        assert "--images and --labels go together; give both, or --corrections alone" in stderr


@pytest.mark.skipif(os.name != "posix", reason="needs signals to a thread")
def test_ctrl_c_stops_and_keeps_what_there_was(call, folders, store, nuclei, monkeypatch):
    start, jobs, sent = SegmentationService.train, [], []

    def interrupted(self, *args):
        def listener(progress):
            if progress.loss is not None and not sent:
                sent.append(signal.SIGINT)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        job = start(self, *args)
        jobs.append(job)
        job.progressed.connect(listener)
        return job

    monkeypatch.setattr(SegmentationService, "train", interrupted)
    options = ("--name", "nuclei", "--from", "nuclei", "--minutes", 60)
    # Who started the tests in the background may have had it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, stdout, stderr = train(call, folders, *options)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, stdout) == (1, "")
    assert stderr == "napari-unet: stopped; nothing that was saved is lost\n"
    assert jobs[0].reason.value == "cancelled"
    assert store.versions("nuclei") == [nuclei]


# evaluate

KEYS = {
    "n_images", "n_true", "n_pred", "ap50", "ap75", "map", "f1_50", "precision_50", "recall_50",
    "seg", "iou", "pixel_error", "seconds",
}  # fmt: skip


def test_evaluate_prints_one_json_object(call, folders):
    options = ("--images", folders[0], "--labels", folders[1], "--model", "nuclei")
    status, stdout, stderr = call("evaluate", *options, "--json")
    assert (status, stderr) == (0, "")
    assert len(stdout.splitlines()) == 1
    scores = json.loads(stdout)
    assert set(scores) == KEYS
    assert (scores["n_images"], scores["n_true"], scores["n_pred"]) == (2, 24, 24)
    assert scores["ap50"] == scores["f1_50"] == 1
    assert scores["iou"] > 0.95
    assert scores["pixel_error"] < 0.01


def test_evaluate_for_people(call, folders):
    status, stdout, _ = call("evaluate", "--images", folders[0], "--labels", folders[1])
    assert status == 0
    shown = dict(line.split() for line in stdout.splitlines())
    assert set(shown) == KEYS
    assert shown["n_true"] == "24"


def test_evaluate_what_does_not_fit(call, folders, tmp_path):
    status, _, stderr = call("evaluate", "--images", tmp_path / "none", "--labels", folders[1])
    assert status == 1
    assert "there is no file or folder" in stderr
    tifffile.imwrite(folders[1] / "a.tif", np.full((72, 80), 0.5, np.float32))
    status, stdout, stderr = call("evaluate", "--images", folders[0], "--labels", folders[1])
    assert (status, stdout) == (1, "")
    assert f"{folders[1] / 'a.tif'}: the labels are float32; give whole numbers" in stderr


# As a program


def program(*arguments):
    command = [sys.executable, "-m", "napari_unet.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_program_segments(image, tmp_path):
    out = tmp_path / "l.tif"
    done = program("segment", image, "-o", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_cells"] == 12
    assert tifffile.imread(out).max() == 12


@pytest.mark.slow
def test_the_program_fails_with_one_line_and_a_status(tmp_path):
    done = program("models", "show", "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("napari-unet: there is no model 'none'; choose one of: nuclei@1")
    assert len(done.stderr.splitlines()) == 1
    assert program("models").returncode == 2


def test_a_store_is_segmented_into_a_store_with_a_table(call, write_model, blobs, tmp_path):
    import zarr

    image, _ = blobs(0, (120, 140))
    zarr.save_array(tmp_path / "a.zarr", image)
    tifffile.imwrite(tmp_path / "a.tif", image)
    write_model(tmp_path / "m.safetensors")
    for name, out in (("a.zarr", "stores"), ("a.tif", "files"), ("a.zarr", "one.tif")):
        status, _, stderr = call(
            "segment", tmp_path / name, "-o", tmp_path / out, "--model",
            tmp_path / "m.safetensors", "--table", "--device", "cpu",
        )  # fmt: skip
        assert (status, stderr) == (0, "")
    expected = read_image(tmp_path / "files" / "a_labels.tif").data
    found = zarr.open_array(tmp_path / "stores" / "a_labels.zarr" / "0")[:]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_image(tmp_path / "one.tif").data, expected)
    tables = [(tmp_path / out / "a_cells.csv").read_text() for out in ("stores", "files")]
    assert tables[0].count("\n") == tables[1].count("\n") == expected.max() + 1
