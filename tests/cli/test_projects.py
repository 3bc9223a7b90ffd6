"""`napari-unet project`: segment, status, table, join."""

from __future__ import annotations

import csv
import shutil

import pytest
import tifffile


@pytest.fixture
def folder(tmp_path, blobs):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        tifffile.imwrite(folder / f"{name}.tif", blobs(seed, (48, 56))[0])
    return folder


def test_a_folder_from_images_to_a_table(call, folder, nuclei, tmp_path):
    status, out, _ = call("project", "segment", folder)
    assert status == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["a.tif", "b.tif"]
    status, out, told = call("project", "segment", folder)
    assert (status, out) == (0, "")
    assert "nothing is left" in told
    status, out, _ = call("project", "status", folder)
    assert out.splitlines()[0] == "0 new, 2 segmented, 0 corrected, 0 done of 2 images"
    assert "segmented  a.tif  4 cells with nuclei@1, doubt" in out
    assert call("project", "table", folder)[0] == 0
    assert call("project", "table", folder)[0] == 0
    with (folder / "napari-unet-cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {"a.tif", "b.tif"}
    assert list(rows[0])[:2] == ["image", "label"]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    status, out, _ = call("project", "join", folder, copy, tmp_path / "out")
    assert (status, out.count("conflict")) == (0, 0)
    status, out, _ = call("project", "join", folder, copy)
    assert (status, out) == (0, f"{folder} and {copy} -> {tmp_path / 'images-and-copy'}\n")
    assert (tmp_path / "images-and-copy" / "labels" / "a_labels.tif").exists()


def test_the_model_of_the_folder_is_used(call, folder, nuclei, add_model):
    from napari_unet.projects.project import Project

    add_model("mine")
    Project(folder).choose(model="mine")
    status, _, told = call("project", "segment", folder)
    assert (status, told) == (0, "napari-unet: with mine@1\n")
    assert call("project", "segment", folder, "--model", "nuclei")[0] == 0
    assert Project(folder).entry("a.tif").model == "nuclei@1"


def test_what_is_wrong_is_one_sentence(call, folder, nuclei, tmp_path):
    (folder / "a.tif").write_bytes(b"broken")
    status, out, told = call("project", "segment", folder)
    assert status == 1
    assert "a.tif cannot be read as an image" in told
    assert out.startswith("b.tif: ")
    status, _, told = call("project", "status", tmp_path / "none")
    assert status == 1
    assert "there is no folder" in told
    (folder / "mine.csv").write_text("x\n1\n")
    assert call("project", "table", folder, "-o", folder / "mine.csv")[0] == 2
    assert (folder / "mine.csv").read_text() == "x\n1\n"
