"""A folder of four images of cells, and its project."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.projects.project import Project


@pytest.fixture
def folder(tmp_path, blobs):
    """Four images of cells, a.tif to d.tif, and what else lies in a folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        tifffile.imwrite(folder / f"{name}.tif", blobs(seed, (48, 56))[0])
    (folder / "._a.tif").write_bytes(b"of a file browser")
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def project(folder):
    return Project(folder)


@pytest.fixture
def correct(blobs):
    """Corrects an image as the dock does: strokes into its draft, labels, state."""

    def correct(project, name, cell=7):
        shape = project.read(name).data.shape
        before = np.zeros(shape, np.int32)
        before[4:10, 4:10] = 1
        after = before.copy()
        after[20:30, 20:30] = cell
        project.drafts.begin(name, before, {})
        where = np.flatnonzero(before != after)
        project.drafts.save_plane(name, (), where, after.ravel()[where])
        project.save_labels(name, after, project.read(name))
        project.corrected(name, 1, is_new=True)
        return after

    return correct


@pytest.fixture
def plate(tmp_path, blobs):
    """A plate in OME-Zarr with two fields."""
    import zarr

    path = tmp_path / "screen" / "p.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    well = group.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    level = {"path": "0", "coordinateTransformations": scale}
    for field in "01":
        image = well.create_group(field)
        image.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
        image.create_array("0", data=blobs(int(field))[0])
    return path
