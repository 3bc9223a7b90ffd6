"""What the documents name is there."""

import ast
import doctest
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest

from napari_unet import api

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BATTERY = (ROOT / "docs" / "battery.md").read_text(encoding="utf-8")
# `tests/PATH::test_name`
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", BATTERY)


def rows() -> list[list[str]]:
    """The cells of each row that begins with a number."""
    lines = [line.strip("| ").split(" | ") for line in BATTERY.splitlines()]
    return [cells for cells in lines if cells[0].isdigit()]


def test_each_case_of_the_battery_is_there_once():
    assert [int(cells[0]) for cells in rows()] == list(range(1, 66))


def test_each_case_names_a_test():
    assert len(NAMED) >= 65
    for cells in rows():
        assert "::test_" in cells[3], cells


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_each_test_that_the_battery_names_exists(path):
    defined = re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / path).read_text("utf-8"), re.M)
    named = {name for where, name in NAMED if where == path}
    assert named <= set(defined), named - set(defined)


def test_messages_that_the_troubleshooting_page_explains_exist():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^(?:### |\| )`(.+?)`(?: \|.*)?$", page, re.M)
    assert len(messages) > 40
    sources = (ROOT / "src" / "napari_unet").rglob("*.py")
    # A message may be written as several pieces of text, one below the other.
    code = "\n".join(re.sub(r'"\s*f?"', "", path.read_text("utf-8")) for path in sources)
    assert [message for message in messages if message not in code] == []


# What the pages set in italics, beside the labels of the dock: other programs, and plain emphasis.
NOT_OF_THE_DOCK = {
    *("Plugins", "Install/Uninstall Plugins…", "Install", "Help", "napari Info", "IO Utilities"),
    *(
        "Save Selected Layers",
        "New labels layer",
        "Convert data type",
        "Command Prompt",
        "Terminal",
    ),
    *("File > Import objects from file", "Cite this repository", "No Qt bindings could be found"),
    *("Command Prompt", "Unpooling", "valid", "up-convolution", "what", "where"),
}


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *DOCS.glob("tutorials/*.md")]
        if page.stem not in ("architecture", "battery", "benchmarks", "lessons", "comparison")
    ],
    ids=lambda page: page.stem,
)
def test_labels_that_the_pages_name_are_in_the_dock(page):
    package = ROOT / "src" / "napari_unet"
    files = [*(package / "plugin").rglob("*.py"), *package.glob("*/*.py"), package / "napari.yaml"]
    source = "".join(path.read_text("utf-8") for path in files)
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
    named = re.findall(r"(?<!\*)\*([^*\n ](?:[^*\n]|\n(?!\n))*)\*(?!\*)", text)
    words = {word for name in named for word in " ".join(name.split()).split(" ▸ ")}
    words = {word.removeprefix("Apply to: ") for word in words} - NOT_OF_THE_DOCK
    # Endings, numbers and names are filled in.
    words = {re.split(r" \(| \d|nuclei", word)[0].strip() for word in words}
    assert {word for word in words if word not in source} == set()


def test_the_notebook_of_the_lessons_takes_from_the_package_what_is_there():
    notebook = json.loads((ROOT / "docs" / "lessons" / "unet.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    imports = [
        node
        for node in ast.walk(ast.parse("\n".join(code)))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("napari_unet")
    ]
    assert len(imports) > 8
    for node in imports:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.slow
def test_a_short_form_of_the_notebook_runs(monkeypatch):
    """All its cells, with 3 training steps; pictures are made, and not shown."""
    shown = []
    figures = ModuleType("matplotlib.pyplot")
    figures.subplots = lambda rows, columns, **_: (Mock(), np.array([[Mock()] * columns]))
    figures.plot = figures.xlabel = figures.ylabel = Mock()
    figures.show = lambda: shown.append(True)
    package = ModuleType("matplotlib")
    package.pyplot = figures
    monkeypatch.setitem(sys.modules, "matplotlib", package)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", figures)
    notebook = json.loads((ROOT / "docs" / "lessons" / "unet.ipynb").read_text(encoding="utf-8"))
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            code = code.replace("train_config(seconds=SECONDS)", "train_config(steps=3)")
            exec(compile(code, "unet.ipynb", "exec"), names)
    assert len(shown) >= 7
    assert len(names["images"]) == 30
    assert len(names["losses"]) == 3
    valid, padded = (difference.max() for difference in names["difference"])
    assert valid < 1e-4 < 0.01 < padded


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_and_pictures_of_the_site_are_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("#")]
    files = [link.split("#")[0] for link in links if not link.startswith("http")]
    assert [name for name in files if not (page.parent / name).exists()] == []
    ours = "https://github.com/napari-unet/napari-unet/blob/main/"
    named = [link.removeprefix(ours).split("#")[0] for link in links if link.startswith(ours)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def modules_with_examples() -> list[str]:
    """Modules of the core whose docstrings hold examples."""
    package = ROOT / "src" / "napari_unet"
    return [
        ".".join(file.relative_to(package.parent).with_suffix("").parts)
        for file in sorted((package / "core").rglob("*.py"))
        if ">>> " in file.read_text("utf-8")
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_the_core_give_what_they_show(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0


def test_examples_of_the_api_give_what_they_show(add_model):
    add_model("nuclei")
    api._service.cache_clear()
    try:
        failed, attempted = doctest.testmod(api)
    finally:
        api._service().close()
        api._service.cache_clear()
    assert attempted > 0
    assert failed == 0
