"""What the documents name is there."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from napari_unet import api

ROOT = Path(__file__).parents[1]
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
