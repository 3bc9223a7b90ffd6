import json

import pytest

pytestmark = pytest.mark.usefixtures("nuclei")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_corrections_list_the_latest_of_each_plane(call, corrections, tmp_path):
    status, stdout, stderr = call("corrections", "list", "nuclei")
    assert (status, stderr) == (0, "")
    created = [entry.created for entry in corrections.entries()]
    place = ["12", "cells", "100", "%", "of", "72", "x", "80", "px"]
    assert [line.split() for line in stdout.splitlines()] == [
        ["a-0002", created[0], *place, "cell"],
        ["b-0001", created[1], *place, "cell,", "dividing"],
    ]
    assert call("corrections", "list", corrections.folder) == (0, stdout, "")
    status, stdout, stderr = call("corrections", "list", tmp_path / "user")
    assert (status, stdout) == (0, "")
    assert stderr == f"no corrections yet in {tmp_path / 'user'}\n"


def test_corrections_show_the_facts_as_json(call, corrections):
    status, stdout, _ = call("corrections", "show", "nuclei@1", "a-0001")
    assert status == 0
    shown = json.loads(stdout)
    assert shown["files"]["labels"] == str(corrections.folder / "labels" / "a-0001.tif")
    assert shown["sha256"] == corrections.find("a-0001").sha256
    assert (shown["key"], shown["seen_px"]) == ("a-0001", 36 * 80)


def test_corrections_go_out_and_away(call, corrections, tmp_path):
    out = tmp_path / "out"
    assert call("corrections", "export", "nuclei", out) == (0, f"exported to {out}\n", "")
    assert names(out) == ["a-0002.json", "b-0001.json", "images", "labels", "seen"]
    for folder in ("images", "labels", "seen"):
        assert names(out / folder) == ["a-0002.tif", "b-0001.tif"]
    pair = ("--images", out / "images", "--labels", out / "labels")
    assert call("evaluate", *pair, "--model", "nuclei")[0] == 0
    status, stdout, stderr = call("corrections", "export", "nuclei", out)
    assert (status, stdout) == (1, "")
    assert stderr == f"napari-unet: {out} is not empty; give a new or empty folder\n"
    removed = "removed a-0001\nremoved a-0002\n"
    assert call("corrections", "remove", "nuclei", "a-0002") == (0, removed, "")
    assert [entry.key for entry in corrections.entries(superseded=True)] == ["b-0001"]
    for command in ("show", "remove"):
        status, _, stderr = call("corrections", command, "nuclei", "a-0002")
        assert status == 1
        assert "there is no correction 'a-0002' in" in stderr
        assert "choose one of: b-0001" in stderr
