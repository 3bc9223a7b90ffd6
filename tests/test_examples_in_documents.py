"""Commands and pieces of code in the documents do what they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from unittest.mock import Mock

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr

import napari_unet
from microscopes import write_nd2
from napari_unet import api
from napari_unet.cli import program
from napari_unet.io.images import write_labels

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *TUTORIALS]
# Blocks of code, each with its language, and code within a line.
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
WITHIN = re.compile(r"`(napari-unet [^`]+)`")
# Minutes of training show no more here than a moment.
MINUTES, SECONDS = re.compile(r"--minutes \d+"), re.compile(r"seconds=\d+")


def commands(page: Path, *others: str) -> list[str]:
    """The commands of this program in the blocks of a page; no test runs those in `text`."""
    blocks = BLOCK.findall(page.read_text("utf-8"))
    codes = [code for language, code in blocks if language != "text" or language in others]
    lines = [line.strip() for code in codes for line in code.split("\n")]
    return [line.split("#")[0].strip() for line in lines if line.startswith("napari-unet ")]


def named(page: Path) -> list[tuple[str, str]]:
    """(command, option) for each option that a page names with its command."""
    found = []
    for text in [*commands(page, "text"), *WITHIN.findall(page.read_text("utf-8"))]:
        words = re.sub(r"[\[\]]", " ", text).split()[1:]
        command = words[0] if words[0].islower() and words[0][0] != "-" else ""
        if command in GROUPS and re.match("[a-z]", " ".join(words[1:2])):
            command += f" {words[1]}"
        found += [(command, word) for word in words if word.startswith("-")]
    return sorted(set(found))


# What stands for the reader's own file and model.
INSTEAD = {"import model.zip": "import my-nuclei.zip", "--model NAME": "--model nuclei"}
# Commands that have commands of their own.
GROUPS = ("models", "corrections", "project", "serve")
OPTIONS = sorted({pair for page in PAGES for pair in named(page)})


@pytest.fixture
def told(capsys):
    """What the help of a command says."""

    def ask(command: str) -> str:
        with pytest.raises(SystemExit):
            program.main([*command.split(), "--help"])
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize("command", sorted({command for command, _ in OPTIONS}))
def test_options_that_the_documents_name_are_there(command, told):
    text = told(command)
    for option in [option for at, option in OPTIONS if at == command]:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option


def test_options_of_the_page_on_commands_are_there(told):
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    options = set(re.findall(r"(?<=`)--[\w-]+", page))
    assert len(options) > 10
    commands = re.findall(r"^    (\w+)  ", told(""), re.MULTILINE)
    texts = [told(command) for command in commands]
    missing = [o for o in options if not any(re.search(rf"{o}(?![\w-])", text) for text in texts)]
    assert not missing


def calls() -> list[str]:
    """What the pages tell to type, in full, within a line or in a block that no test runs."""
    found = set()
    for page in PAGES:
        told = [*WITHIN.findall(page.read_text("utf-8")), *commands(page, "text")]
        found |= {text for text in told if not re.search(r"[|\[]|\.\.\.", text)}
    names = {"napari-unet COMMAND --help", *(f"napari-unet {group}" for group in GROUPS)}
    return sorted(text for text in found - names if len(text.split()) > 2 + is_grouped(text))


def is_grouped(text: str) -> bool:
    """Whether the command is one of a group, such as `models list`."""
    return text.split()[1] in GROUPS and "-" not in text.split()[2:3]


def test_calls_within_a_line_are_complete(capsys):
    assert len(calls()) > 40
    for text in calls():
        try:
            program._parser().parse_args(shlex.split(text)[1:])
        except SystemExit:
            pytest.fail(f"{text}: {capsys.readouterr().err}")


@pytest.fixture
def folder(tmp_path, monkeypatch, blobs) -> Path:
    """A folder with the files that the commands name, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "labels", "stacks"):
        (tmp_path / name).mkdir()
    tifffile.imwrite("image.tif", blobs()[0])
    for path, axes in (("stacks/stack", "ZYX"), ("movie", "TYX"), ("channels", "CYX")):
        pixels = np.stack([blobs()[0]] * 4)
        tifffile.imwrite(f"{path}.tif", pixels, imagej=True, metadata={"axes": axes})
    zarr.save_array("big.zarr", blobs()[0])
    for seed, name in enumerate("ab"):
        pixels, truth = blobs(seed)
        iio.imwrite(f"images/{name}.png", pixels)
        write_labels(Path(f"labels/{name}.tif"), truth, "YX")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda p: p.stem)
def test_commands_run(page, folder, add_model, capsys):
    add_model("nuclei")
    add_model("my-nuclei")
    add_model("phase")
    for command in commands(page):
        command = MINUTES.sub("--steps 2", command)
        for word, stands_for in INSTEAD.items():
            command = command.replace(word, stands_for)
        words = shlex.split(command)[1:]
        if words[0] in ("demo", "serve"):  # they have tests of their own, and end by hand
            continue
        assert program.main(words) == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of versions that learnt for a moment only
def test_pieces_of_python_run(page, folder, add_model, blobs):
    """Each by itself, with what its text speaks of."""
    add_model("nuclei")
    pixels, truth = blobs()
    names = {
        "image": pixels,
        "labels": truth,
        "mask": truth > 0,
        "viewer": Mock(),
        "stack": np.stack([pixels] * 4),
        "stack_labels": np.stack([truth] * 4),
        "movie_labels": np.stack([truth] * 2),
        "trusted": np.ones((4, *truth.shape), bool),
        "napari_unet": napari_unet,
    }
    write_nd2(folder / "stack.nd2", np.stack([pixels] * 2).astype(np.uint16), "ZYX")
    napari_unet.export_labels(names["movie_labels"], "tracks.csv", axes="TYX", format="tracks")
    np.save("cells_seg.npy", {"masks": truth}, allow_pickle=True)
    api._service.cache_clear()
    try:
        for language, code in BLOCK.findall((ROOT / page).read_text("utf-8")):
            if language == "python":
                exec(compile(SECONDS.sub("seconds=1", code), page, "exec"), dict(names))
    finally:
        api._service().close()
        api._service.cache_clear()
