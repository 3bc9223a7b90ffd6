"""Two people worked on one folder: both halves in a new one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from napari_unet.projects.joining import join
from napari_unet.projects.project import Project


def test_halves_are_joined_and_conflicts_are_kept(folder, tmp_path, correct, files_in, blobs):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tifffile.imwrite(copy / "d.tif", blobs(8, (48, 56))[0])
    first, second = Project(folder), Project(copy)
    for name in ("a.tif", "c.tif"):
        correct(first, name, cell=5)
    for name in ("b.tif", "c.tif"):
        correct(second, name, cell=6)
    second.set_done("b.tif", True)
    before = files_in(folder) | files_in(copy)
    out = tmp_path / "out"
    told = join(folder, copy, out)
    assert [sentence.partition(" in ")[0] for sentence in told] == [
        "c.tif was corrected",
        "d.tif is another image",
    ]
    joined = Project(out)
    assert joined.names == ["a.tif", "b.tif", "c-2.tif", "c.tif", "d-2.tif", "d.tif"]
    states = [joined.entry(name).state for name in joined.names]
    assert states == ["corrected", "done", "corrected", "corrected", "new", "new"]
    for name, cell in (("a.tif", 5), ("b.tif", 6), ("c.tif", 5), ("c-2.tif", 6)):
        labels = joined.read_labels(name, joined.read(name))
        assert np.unique(labels).tolist() == [0, 1, cell]
        np.testing.assert_array_equal(joined.corrections(name).labels, labels)
    assert joined.to_teach("m") == ["a.tif", "b.tif", "c-2.tif", "c.tif"]
    assert files_in(folder) | files_in(copy) == before


def test_what_is_there_is_not_replaced(folder, tmp_path, correct):
    correct(Project(folder), "a.tif")
    with pytest.raises(ValueError, match="is there already"):
        join(folder, folder, tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="is no project"):
        join(folder, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_halves_of_a_plate_are_a_plate(plate, tmp_path, files_in):
    copy = tmp_path / "copy"
    shutil.copytree(plate.parent, copy)
    halves = Project(plate.parent), Project(copy)
    for n, (project, ids) in enumerate(zip(halves, (5, 6), strict=True)):
        for name in project.names[n:]:
            labels = np.full((72, 80), ids, np.int32)
            project.drafts.begin(name, labels, {"marks": [{"index": [], "box": [0, 9, 0, 9]}]})
            project.save_labels(name, labels, project.read(name))
            project.corrected(name, 1, is_new=True)
    before = files_in(plate.parent) | files_in(copy)
    told = join(plate.parent, copy, tmp_path / "out")
    assert len(told) == 1
    assert "p.zarr/A/1/1 was corrected in both folders" in told[0]
    joined = Project(tmp_path / "out")
    # Who corrected the first field had looked at the second one as well.
    assert joined.names == ["p-2.zarr/A/1/1", "p.zarr/A/1/0", "p.zarr/A/1/1"]
    found = [joined.read_labels(name, joined.read(name)).max() for name in joined.names]
    assert found == [6, 5, 5]
    assert {joined.entry(name).state for name in joined.names} == {"corrected"}
    assert files_in(plate.parent) | files_in(copy) == before


def test_images_in_zarr_of_one_size_are_told_from_each_other(plate, tmp_path, correct):
    import zarr

    copy = tmp_path / "copy"
    shutil.copytree(plate.parent, copy)
    pixels = zarr.open(copy / "p.zarr/A/1/0", mode="r+")["0"]
    pixels[...] = np.random.default_rng(0).integers(0, 255, pixels.shape)
    for folder in (plate.parent, copy):
        Project(folder).choose(current="p.zarr/A/1/0")
    told = join(plate.parent, copy, tmp_path / "out")
    assert [sentence.partition(" in ")[0] for sentence in told] == ["p.zarr/A/1/0 is another image"]
    assert "p-2.zarr/A/1/0" in Project(tmp_path / "out").names
