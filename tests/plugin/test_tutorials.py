"""The tutorials that are quick do in the dock what their pages say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from napari_unet.models.store import SHIPPED

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
# Some that neither train nor start other programs; all run when their pictures are taken.
QUICK = ("nuclei", "movie", "channels", "folder")


@pytest.fixture(scope="module")
def tutorials():
    """The module docs/make_tutorials.py."""
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / "docs" / "make_tutorials.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@pytest.mark.slow
@pytest.mark.skipif(not (SHIPPED / "nuclei.safetensors").exists(), reason="no weights here")
@pytest.mark.parametrize("name", QUICK)
def test_a_tutorial_runs(name, tutorials, viewer, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "models"))
    stage = tutorials.Stage(viewer, tmp_path, tmp_path)
    try:
        getattr(tutorials, name)(stage)
    finally:
        stage.dock.cleanup()
    taken = sorted(path.name for path in tmp_path.glob("tutorial-*.png"))
    page = (ROOT / "docs" / "tutorials" / f"{name.replace('_', '-')}.md").read_text("utf-8")
    assert taken == sorted(re.findall(r"images/(tutorial-[\w-]+\.png)", page))


def test_each_tutorial_has_a_page_and_its_pictures(tutorials):
    pages = {page.stem for page in PAGES} - {"index"}
    # The tissue is the image of tests/stories/test_story.py.
    done = {one.__name__.replace("_", "-") for one in tutorials.TUTORIALS} | {"tissue"}
    assert pages == done
    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"images/(tutorial-[\w-]+\.png)", text))
    assert named == {path.name for path in (ROOT / "docs" / "images").glob("tutorial-*.png")}


def test_buttons_that_the_tutorials_name_are_there():
    """All in bold, but what a page is for, and the headings of a list."""
    texts = [page.read_text("utf-8") for page in PAGES]
    found = [one for text in texts for one in re.findall(r"\*\*([^*]+)\*\*(:?)", text)]
    bold = {name for name, colon in found if not colon}
    words = {word for name in bold - {"You have", "You get"} for word in name.split(" ▸ ")}
    # The number of minutes is filled in.
    words = {re.split(r" \d", word)[0] for word in words}
    assert len(words) > 10
    files = (ROOT / "src" / "napari_unet" / "plugin").rglob("*.py")
    source = "".join(path.read_text("utf-8") for path in files)
    assert {word for word in words if f'"{word}' not in source} == set()
