"""The rest of a folder is segmented, and corrected images stay."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_unet.config import PredictConfig
from napari_unet.jobs import JobCancelled
from napari_unet.projects.classes import classes_of, save_classes
from napari_unet.projects.joining import join
from napari_unet.projects.manifest import BY_DOUBT
from napari_unet.projects.project import Project
from napari_unet.projects.rest import segment_rest
from napari_unet.projects.table import write_cells


def labels_of(project, name):
    return project.read_labels(name, project.read(name))


def test_all_that_nobody_corrected(service, project, correct, nuclei, folder):
    after = correct(project, "b.tif")
    (folder / "d.tif").write_bytes(b"broken")
    told = []
    segment_rest(service, project, "nuclei", told=told.append).wait()
    assert [(done.name, done.taken) for done in told] == [
        ("a.tif", True),
        ("c.tif", True),
        ("d.tif", False),
    ]
    assert "d.tif cannot be read" in told[2].outcome.error
    np.testing.assert_array_equal(labels_of(project, "b.tif"), after)
    entry = Project(folder).entry("a.tif")
    assert (entry.state, entry.model) == ("segmented", "nuclei@1")
    assert labels_of(project, "a.tif").max() == entry.n_cells > 0
    assert 0 <= entry.doubt < 1
    assert Project(folder).manifest.sort == BY_DOUBT
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [
        "a_labels.tif",
        "b_labels.tif",
        "c_labels.tif",
    ]


def test_an_image_that_is_corrected_meanwhile_stays(service, project, correct, nuclei):
    kept = []

    def tell(done):
        if done.name == "a.tif":
            kept.append(correct(project, "c.tif"))

    segment_rest(service, project, "nuclei", told=tell).wait()
    np.testing.assert_array_equal(labels_of(project, "c.tif"), kept[0])
    assert project.entry("c.tif").state == "corrected"


def test_cancelled_it_goes_on_where_it_was(service, project, nuclei):
    job = None

    def stop(done):
        job.cancel()

    job = segment_rest(service, project, "nuclei", told=stop)
    with pytest.raises(JobCancelled):
        job.wait()
    again = Project(project.folder)
    assert again.to_segment("nuclei@1") == ["b.tif", "c.tif", "d.tif"]
    segment_rest(service, again, "nuclei").wait()
    with pytest.raises(ValueError, match="nothing is left to segment"):
        segment_rest(service, again, "nuclei")


def test_a_newer_version_does_it_again(service, project, nuclei, add_model):
    segment_rest(service, project, "nuclei").wait()
    add_model("nuclei", seed=1)
    assert len(project.to_segment("nuclei@2")) == 4


def test_an_image_that_was_changed_is_segmented_again(service, project, nuclei, folder, blobs):
    segment_rest(service, project, "nuclei").wait()
    tifffile.imwrite(folder / "a.tif", blobs(7, (60, 40))[0])
    again = Project(folder)
    assert again.to_segment("nuclei@1") == ["a.tif"]
    segment_rest(service, again, "nuclei").wait()
    assert labels_of(again, "a.tif").shape == (60, 40)
    assert not Project(folder).changed


def test_what_the_cells_are_is_kept_and_told_in_the_table(service, folder, add_model, tmp_path):
    add_model("kinds", classes=("background", "round", "long"))
    project = Project(folder)
    segment_rest(service, project, "kinds").wait()
    n_cells = project.entry("a.tif").n_cells
    assert classes_of(project.label_path("a.tif")) == dict.fromkeys(range(1, n_cells + 1), "round")
    # It is no image, wherever it lies, and a model without types takes it away.
    assert Project(folder).notes == ["1 file is no image and is left out: notes.txt"]
    save_classes(project.label_path("a.tif"), {1: "long", 2: "cell"})
    path = tmp_path / "cells.csv"
    write_cells(SimpleNamespace(report=print, check=print), project, path, print)
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == "a.tif"]
    assert [row["class"] for row in rows] == ["long", *["cell"] * (n_cells - 1)]
    joined = tmp_path / "joined"
    join(folder, folder, joined)
    assert classes_of(Project(joined).label_path("a.tif")) == {1: "long"}
    add_model("plain")
    segment_rest(service, project, "plain").wait()
    assert classes_of(project.label_path("a.tif")) == {}


def test_of_each_image_the_channel_is_kept_that_was_seen(service, project, folder, nuclei, blobs):
    both = np.stack([np.zeros((48, 56), np.uint8), blobs(5, (48, 56))[0]])
    tifffile.imwrite(folder / "e.tif", both, imagej=True, metadata={"axes": "CYX"})
    project = Project(folder)
    segment_rest(service, project, "nuclei", PredictConfig(channel=1, link="z")).wait()
    assert {name: project.entry(name).channel for name in ("a.tif", "e.tif")} == {
        "a.tif": None,
        "e.tif": 1,
    }
    assert project.entry("e.tif").n_cells > 0
    assert Project(folder).entry("e.tif").channel == 1
