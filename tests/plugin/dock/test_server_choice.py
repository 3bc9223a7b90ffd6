"""The box of servers in the dock, with two real ones."""

import time

import pytest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_unet.plugin.dock import server_choice
from napari_unet.plugin.dock.server_choice import ADD, FORGET, HERE
from napari_unet.plugin.dock.theme import BAD, GOOD
from napari_unet.plugin.dock.widgets import Column
from servers import SOON, Server

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    found = [Server(tmp_path_factory.mktemp(name)) for name in ("lab", "institute")]
    yield found
    for server in found:
        server.stop()


@pytest.fixture
def asked(monkeypatch):
    """The files of the servers that were asked whether they answer."""
    found, ask = [], server_choice.why_silent

    def why_silent(file):
        found.append(file.stem)
        return ask(file)

    monkeypatch.setattr(server_choice, "why_silent", why_silent)
    monkeypatch.setattr(server_choice, "_AGAIN_MS", 200)
    return found


def add(choice, monkeypatch, file):
    """Choose a file as the user does; the dialog itself is Qt's."""
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    row = choice.box.native.findText(ADD)
    choice.box.native.setCurrentIndex(row)
    return choice.box.value


def dot(choice, name):
    """The colour in the middle of the dot of a server."""
    native = choice.box.native
    image = native.itemIcon(native.findText(name)).pixmap(10, 10).toImage()
    return image.pixelColor(image.width() // 2, image.height() // 2).name()


def wait_for(holds):
    end = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)


def look_at_box(widget):
    """Unfold the settings, and scroll to the box."""
    box = widget.advanced.server.box.native
    widget.advanced.expand(animate=False)

    def is_seen():
        widget.findChild(Column).ensureWidgetVisible(box)
        return not box.visibleRegion().isEmpty()

    wait_for(is_seen)


def texts(choice):
    return [choice.box.native.itemText(row) for row in range(choice.box.native.count())]


@pytest.mark.slow
def test_two_servers(docked, settle, image, servers, asked, monkeypatch):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    choice = widget.advanced.server
    assert texts(choice) == [HERE, ADD]
    lab, institute = (add(choice, monkeypatch, server.file) for server in servers)
    assert (institute, texts(choice)) == (f"{lab}-2", [HERE, lab, institute, ADD, FORGET])
    QApplication.processEvents()
    assert asked == [], "nobody sees the box"

    look_at_box(widget)
    wait_for(lambda: (dot(choice, lab), dot(choice, institute)) == (GOOD, GOOD))
    widget.segment_button.click()
    settle(widget, SOON)
    assert "3 cells" in widget.status.text()
    assert widget.compute.text().endswith(": CPU")
    assert "segment" in servers[1].log.read_text()
    assert "segment" not in servers[0].log.read_text()

    servers[0].stop()
    wait_for(lambda: (dot(choice, lab), dot(choice, institute)) == (BAD, GOOD))
    choice.box.value = lab
    assert "cannot be reached" in choice.box.native.toolTip()
    widget.advanced.collapse(animate=False)
    wait_for(lambda: not choice._asking)
    asked.clear()
    end = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > end)
    assert asked == [], "nobody sees the box any more"

    choice.box.value = FORGET
    assert texts(choice) == [HERE, institute, ADD]
    assert choice.box.value == ""


def test_a_server_that_was_forgotten_elsewhere(docked, image):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    choice = widget.advanced.server
    choice.choose("gone")
    look_at_box(widget)
    wait_for(lambda: dot(choice, "gone") == BAD)
    assert "there is no server 'gone'" in choice.box.native.toolTip()
    widget.segment_button.click()
    assert "there is no server 'gone'" in widget.status.text()
    assert not widget.is_busy


def test_a_file_that_is_none_is_told(docked, monkeypatch, tmp_path):
    widget = docked()
    choice, before = widget.advanced.server, texts(widget.advanced.server)
    (tmp_path / "x.json").touch(0o600)
    assert add(choice, monkeypatch, tmp_path / "x.json") == ""
    assert "does not say how to reach a server" in widget.status.text()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    choice.box.value = ADD
    assert (choice.box.value, texts(choice)) == ("", before)
