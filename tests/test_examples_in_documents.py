"""Commands and pieces of code in the documents do what they say.

Each line of a block in `sh` or `bat` is run here, or checked without being run (`CHECKED`), or
stands in `NOT_RUN` with the reason. Each block in `python` is run. Blocks in `text` are what
programs print.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from functools import partial
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
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "packaging/client/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Blocks of code, each with its language, and code within a line.
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
WITHIN = re.compile(r"`(napari-unet [^`]+)`")
# Minutes of training show no more here than a moment.
MINUTES, SECONDS = re.compile(r"--minutes \d+"), re.compile(r"seconds=\d+")


def lines(page: Path) -> list[str]:
    """What the blocks of a page tell to type, line by line."""
    blocks = BLOCK.findall(page.read_text("utf-8"))
    typed = "\n".join(code for language, code in blocks if language in ("sh", "bat"))
    found = [re.sub(r"\s+#.*", "", line).strip() for line in typed.split("\n")]
    return [line for line in found if line]


def commands(page: Path) -> list[str]:
    """The commands of this program in the blocks of a page."""
    return [line for line in lines(page) if line.startswith("napari-unet ")]


def named(page: Path) -> list[tuple[str, str]]:
    """(command, option) for each option that a page names with its command."""
    found = []
    for text in [*commands(page), *WITHIN.findall(page.read_text("utf-8"))]:
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
    """What the pages tell to type, in full, within a line or in a block."""
    found = set()
    for page in PAGES:
        told = [*WITHIN.findall(page.read_text("utf-8")), *commands(page)]
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
        if not any(re.match(start, command) for start in NOT_RUN):
            words = shlex.split(command)[1:]
            assert program.main(words) == 0, f"{command}: {capsys.readouterr().err}"


# What no test runs, and why. For commands of this program, that their options are there is tested.
NOT_RUN = {
    r"napari-unet demo$": "opens a window and ends by hand; tests/stories/test_demo.py runs it",
    r"napari-unet serve( |$)": "runs until it is stopped; tests/serving runs it and its commands",
    r"napari-unet servers |.* --server ": "needs a server; tests/serving runs them",
    r".* --scheduler |dask ": "needs a cluster; tests/large_images runs one",
    r"(py|python3?) -m venv |source |napari-unet\\Scripts\\activate$": "makes an environment",
    r"conda |sudo apt-get |pip install torch ": "installs other programs from the internet",
    r"pip (uninstall|install --upgrade) napari-unet$": "changes the environment of the tests",
    r"napari$|jupyter lab |mkdocs serve$": "runs until it is closed",
    r"ssh ": "needs another computer",
    r"pre-commit install$|git (tag|push) ": "changes the repository",
    r"(NAPARI_UNET_PICTURES=docs/images |\.venv/bin/)?pytest\b|.*bin/pip install ": "these tests",
}


def test_what_is_not_run_is_in_the_pages():
    typed = [line for page in PAGES for line in lines(page)]
    assert [start for start in NOT_RUN if not any(re.match(start, line) for line in typed)] == []


class Parsed(Exception):
    """A program has read its options."""


def check_options(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark or a recipe reads its options, and does no more."""

    def parse(self, *_):
        real(self, options)
        raise Parsed

    words = shlex.split(line.removeprefix("NAPARI_UNET_DATA=FOLDER "))
    module, options = (words[2], words[3:]) if words[1] == "-m" else ("", words[2:])
    real = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "path", [str(ROOT / "recipes"), str(ROOT), *sys.path])
    run = partial(runpy.run_module, module) if module else partial(runpy.run_path, words[1])
    monkeypatch.chdir(ROOT)
    # Another command may have imported it.
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(Parsed):
        run(run_name="__main__")


def check_script(line: str, _) -> None:
    """The scripts of the pictures are there; tests/plugin/test_tutorials.py runs one of them."""
    assert (ROOT / line.split()[1]).is_file()


def check_extras(line: str, _) -> None:
    """This package, or the one without PyTorch, has the extras that pip is asked for."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found = re.findall(r"napari-unet(?:-client)?\[(.+?)\]", line)
    named = {name for extras in found for name in extras.split(",")}
    assert named <= set(settings["project"]["optional-dependencies"])
    groups = set(re.findall(r"--group (\w+)", line))
    assert groups <= set(settings["dependency-groups"])


def check_mode(line: str, _) -> None:
    """`./run` knows what it is asked for."""
    assert f"\n{line.split()[1]})\n" in (ROOT / "run").read_text("utf-8")


def check_environments(line: str, _) -> None:
    """tox knows its environments."""
    text = (ROOT / "tox.ini").read_text("utf-8")
    assert all(f"[testenv:{name}]" in text for name in line.split()[2].split(","))


def check_python(line: str, _) -> None:
    """Python runs it."""
    exec(shlex.split(line)[2], {})


# What is looked at without being run.
CHECKED = {
    r"(NAPARI_UNET_DATA=FOLDER )?python (-m benchmarks\.|recipes/)": check_options,
    r"python docs/make_\w+\.py": check_script,
    r"pip install ": check_extras,
    r"\./run ": check_mode,
    r"tox -e ": check_environments,
    r"python -c ": check_python,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if lines(p)], ids=lambda p: p.stem)
def test_each_line_of_a_block_is_run_or_can_be(page, monkeypatch):
    for line in lines(page):
        if line.startswith("napari-unet ") or any(re.match(start, line) for start in NOT_RUN):
            continue
        checks = [check for start, check in CHECKED.items() if re.match(start, line)]
        assert len(checks) == 1, f"{line}: run it, check it, or say in NOT_RUN why not"
        with monkeypatch.context() as patch:
            checks[0](line, patch)


def test_blocks_are_of_known_kinds():
    """What is to be typed is not hidden in a block of another kind, or in an indented one."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = BLOCK.findall(text)
        assert {kind for kind, _ in blocks} <= {"sh", "bat", "python", "text", "mermaid"}, page
        printed = "\n".join(code for kind, code in blocks if kind == "text")
        indented = "\n".join(re.findall(r"\n\n(?: {4}[^\n]+\n)+", BLOCK.sub("", text)))
        typed = r"^ *(napari-unet|python3?|pip|ssh|tox|\./run|\w+=\S+ python) .*"
        assert re.findall(typed, f"{printed}\n{indented}", re.M) == [], page


def test_libraries_of_the_system_are_those_that_the_checkout_installs():
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    (line,) = re.findall(r"sudo apt-get install (.*)", page)
    known = re.search(r"qt=\((.*?)\)", (ROOT / "run").read_text("utf-8"), re.S)[1].split()
    assert set(line.split()) <= set(known)


def pieces(page: Path) -> list[str]:
    """The blocks of Python in a page."""
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if pieces(page)], ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of versions that learnt for a moment only
def test_pieces_of_python_run(page, folder, add_model, blobs):
    """Each by itself, with what its text speaks of; the last line gives what its comment says."""
    add_model("nuclei")
    # It gives three scores, as the model `nuclei` that ships does with its distance.
    add_model("three", depth=3, in_channels=3, classes=("background", "cell", "other"))
    pixels, truth = blobs()
    given = {
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
    napari_unet.export_labels(given["movie_labels"], "tracks.csv", axes="TYX", format="tracks")
    np.save("cells_seg.npy", {"masks": truth}, allow_pickle=True)
    api._service.cache_clear()
    try:
        napari_unet.export_model("three", "nuclei.onnx")
        for code in pieces(page):
            exec(compile(SECONDS.sub("seconds=1", code), page, "exec"), names := dict(given))
            if told := re.search(r"^(\S+)  # (\(.*\))$", code, re.M):
                assert eval(told[1], names) == eval(told[2])
    finally:
        api._service().close()
        api._service.cache_clear()
