"""A folder as a project: what is there, what is saved, what a kill leaves behind."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile

from napari_unet.io.outputs import NotOursError
from napari_unet.projects.folder import folder_of
from napari_unet.projects.manifest import BY_DOUBT, BY_NAME, FILE
from napari_unet.projects.project import Project, in_image_order
from napari_unet.projects.rest import segment_rest


def test_a_folder_is_read_and_nothing_is_written(folder, files_in):
    before = files_in(folder)
    project = Project(folder)
    assert project.names == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert {project.entry(name).state for name in project.names} == {"new"}
    assert project.notes == ["1 file is no image and is left out: notes.txt"]
    assert files_in(folder) == before


def test_labels_and_states_are_there_again(project, folder, correct):
    after = correct(project, "b.tif")
    project.set_done("b.tif", True)
    project.choose(current="b.tif")
    again = Project(folder)
    assert again.manifest.current == "b.tif"
    entry = again.entry("b.tif")
    assert (entry.state, entry.n_corrected, entry.is_changed) == ("done", 1, True)
    np.testing.assert_array_equal(again.read_labels("b.tif", again.read("b.tif")), after)
    np.testing.assert_array_equal(again.corrections("b.tif").labels, after)
    assert again.read_labels("a.tif", again.read("a.tif")) is None
    again.set_done("b.tif", False)
    assert again.entry("b.tif").state == "corrected"


def test_without_corrections_an_image_counts_as_segmented(project, correct):
    correct(project, "a.tif")
    project.corrected("a.tif", 0, is_new=True)
    assert project.entry("a.tif").state == "segmented"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ('{"format": "something else 1"}', "it is no project of napari-unet"),
        ('{"format": "napari-unet project 1"}', "cannot be read"),
        ('{"format": "napari-unet project 2", "images": 3}', "newer version"),
    ],
)
def test_a_json_that_cannot_be_read_stays_as_it_is(folder, text, told):
    (folder / FILE).write_text(text)
    with pytest.raises(ValueError, match=told):
        Project(folder)
    assert (folder / FILE).read_text() == text


def test_a_json_that_becomes_newer_is_not_overwritten(project, folder):
    newer = '{"format": "napari-unet project 9"}'
    (folder / FILE).write_text(newer)
    with pytest.raises(ValueError, match="newer version"):
        project.set_held_out("a.tif", True)
    assert (folder / FILE).read_text() == newer


def test_a_broken_state_is_one_sentence(project, folder):
    project.set_held_out("a.tif", True)
    said = json.loads((folder / FILE).read_text())
    said["images"]["a.tif"]["state"] = "finished"
    (folder / FILE).write_text(json.dumps(said))
    with pytest.raises(ValueError, match="the state of an image cannot be read"):
        Project(folder)


def test_names_that_collide_are_told_and_get_labels_of_their_own(folder, blobs):
    import imageio.v3 as iio

    iio.imwrite(folder / "A.png", blobs(9, (48, 56))[0])
    project = Project(folder)
    labels = {project.label_path(name) for name in project.names}
    assert len({str(path).lower() for path in labels}) == 5
    assert any("1 image has the name of another" in note for note in project.notes)


def test_images_gone_and_changed_are_told(project, folder, correct, blobs):
    for name in ("a.tif", "b.tif"):
        correct(project, name)
    (folder / "a.tif").unlink()
    tifffile.imwrite(folder / "b.tif", blobs(5, (48, 56))[0])
    again = Project(folder)
    assert "1 image is gone; its labels stay: a.tif" in again.notes
    assert "1 image was changed since; its labels may not fit: b.tif" in again.notes
    assert again.names == ["b.tif", "c.tif", "d.tif"]
    assert again.changed == {"b.tif"}


def test_a_copy_with_another_time_is_the_same_image(project, folder, correct):
    correct(project, "a.tif")
    os.utime(folder / "a.tif", (1, 1))
    assert not Project(folder).changed


def test_what_is_segmented_never_replaces_what_was_corrected(project, correct, tmp_path):
    after = correct(project, "a.tif")
    # As if the program was killed between the stroke and the json file.
    project._update("a.tif", state="segmented")
    found = tmp_path / "found.tif"
    tifffile.imwrite(found, np.ones((48, 56), np.uint16), software="napari-unet")
    assert not project.accept("a.tif", found, "m@1", 1, 0.2, None, {})
    np.testing.assert_array_equal(project.read_labels("a.tif", project.read("a.tif")), after)
    assert not found.exists()
    assert Project(project.folder).entry("a.tif").state == "corrected"


def test_labels_that_lack_the_last_stroke_are_written_anew(project, folder, correct):
    after = correct(project, "a.tif")
    path = project.label_path("a.tif")
    project.save_labels("a.tif", np.zeros((48, 56), np.int32), project.read("a.tif"))
    os.utime(path, (1, 1))
    again = Project(folder)
    np.testing.assert_array_equal(again.read_labels("a.tif", again.read("a.tif")), after)


def test_labels_of_another_program_are_not_replaced(project):
    path = project.label_path("a.tif")
    path.parent.mkdir()
    tifffile.imwrite(path, np.ones((48, 56), np.uint16))
    with pytest.raises(NotOursError, match="was not made by napari-unet"):
        project.save_labels("a.tif", np.zeros((48, 56), np.int32), project.read("a.tif"))


def test_two_programs_on_one_folder_keep_both_states(folder, correct):
    one, other = Project(folder), Project(folder)
    correct(one, "a.tif")
    correct(other, "b.tif")
    one.set_done("a.tif", True)
    again = Project(folder)
    assert [again.entry(name).state for name in again.names[:2]] == ["done", "corrected"]


def test_the_most_doubtful_come_first_and_corrected_ones_last(project, correct):
    correct(project, "a.tif")
    for name, doubt in (("b.tif", 0.2), ("c.tif", 0.7)):
        project.segmented(name, "m@1", 3, doubt)
    assert project.names[0] == "a.tif"
    project.choose(sort=BY_DOUBT)
    assert project.names == ["c.tif", "b.tif", "d.tif", "a.tif"]
    assert Project(project.folder).names == ["c.tif", "b.tif", "d.tif", "a.tif"]


@pytest.mark.parametrize("chosen", [None, BY_NAME, BY_DOUBT])
def test_after_a_fine_tune_the_order_is_that_of_doubt_unless_another_was_chosen(
    project, correct, chosen
):
    correct(project, "a.tif")
    project.segmented("d.tif", "m@1", 3, 0.5)
    # It was chosen in another program, which is open as well.
    Project(project.folder).choose(sort=chosen)
    assert Project(project.folder).names[0] == ("d.tif" if chosen == BY_DOUBT else "a.tif")
    project.taught(["a.tif"], "m")
    again = Project(project.folder)
    assert again.manifest.sort == (chosen or BY_DOUBT)
    assert again.names[0] == ("a.tif" if chosen == BY_NAME else "d.tif")


def test_two_programs_that_remember_the_open_image_do_not_change_the_order(project):
    Project(project.folder).choose(sort=BY_NAME)
    project.choose(current="b.tif")
    assert Project(project.folder).manifest.sort == BY_NAME


def test_images_that_judge_do_not_teach_and_those_that_taught_do_not_judge(project, correct):
    for name in ("a.tif", "b.tif"):
        correct(project, name)
    project.set_held_out("a.tif", True)
    assert project.to_teach("m") == ["b.tif"]
    assert project.n_corrected == 1
    project.taught(["b.tif"], "m", is_used=False)
    assert project.entry("b.tif").is_changed
    assert project.to_teach("m") == ["b.tif"]
    project.taught(["b.tif"], "m")
    assert project.to_teach("m") == []
    assert project.to_teach("another") == ["b.tif"]
    with pytest.raises(ValueError, match=r"m learnt from b\.tif already"):
        project.set_held_out("b.tif", True)
    project.corrected("b.tif", 2, is_new=True)
    assert project.to_teach("m") == ["b.tif"]


def test_done_needs_labels(project):
    with pytest.raises(ValueError, match="has no labels yet"):
        project.set_done("a.tif", True)


def test_chosen_images_and_labels_beside_them(folder, correct):
    project = Project(folder, [folder / "c.tif"], labels=".")
    assert project.names == ["c.tif"]
    correct(project, "c.tif")
    assert (folder / "c_labels.tif").exists()
    again = Project(folder)
    assert again.names == ["c.tif"]
    assert again.entry("c.tif").state == "corrected"


def test_a_folder_without_images_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        Project(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        Project(tmp_path / "none")


def test_labels_in_the_order_of_the_image():
    planes = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert in_image_order(planes, "ZYX").shape == (2, 3, 4)
    assert in_image_order(planes, "CYXZ").shape == (3, 4, 2)


def test_axes_are_named_for_all_images_like_one(folder, correct, blobs):
    movie = np.stack([blobs(9, (48, 56))[0]] * 2)
    for name in ("e.tif", "f.tif"):
        tifffile.imwrite(folder / name, movie, photometric="minisblack")
    project = Project(folder)
    assert project.read("e.tif").axes == "ZYX"
    correct(project, "a.tif")
    project.save_labels("f.tif", np.ones(movie.shape, np.int32), project.read("f.tif"))
    project.segmented("f.tif", "m@1", 1, 0.5)
    other = Project(folder)
    project.name_axes("ZYX", "TYX")
    # What was segmented with other axes is left to do, and what was corrected is not.
    assert project.to_segment("m@1") == ["b.tif", "c.tif", "d.tif", "e.tif", "f.tif"]
    other.choose(current="b.tif", model="mine")
    again = Project(folder)
    assert (again.read("e.tif").axes, again.read("e.tif").label_axes) == ("TYX", "TYX")
    assert again.read("a.tif").axes == "YX"
    assert (again.manifest.model, again.manifest.current) == ("mine", "b.tif")
    again.name_axes("ZYX", "CYX")
    assert again.read("e.tif").label_axes == "YX"


def test_a_plate_and_its_labels(plate):
    project = Project(plate.parent)
    assert project.names == ["p.zarr/A/1/0", "p.zarr/A/1/1"]
    name = project.names[1]
    labels = np.zeros((72, 80), np.int32)
    labels[3:9, 4:11] = 70000
    project.save_labels(name, labels, project.read(name))
    assert project.label_path(name).name == "p_A_1_1_labels.zarr"
    np.testing.assert_array_equal(project.read_labels(name, project.read(name)), labels)


def test_a_plate_may_be_chosen_itself(plate, service, nuclei):
    # Beside it there is what is no part of the project.
    tifffile.imwrite(plate.parent / "other.tif", np.zeros((9, 9), np.uint8))
    folder, images = folder_of([plate])
    project = Project(folder, images)
    assert project.names == ["p.zarr/A/1/0", "p.zarr/A/1/1"]
    segment_rest(service, project, "nuclei").wait()
    again = Project(*folder_of([plate]))
    assert [again.entry(name).state for name in again.names] == ["segmented"] * 2
    # So they can be ordered by it.
    assert all(again.entry(name).doubt is not None for name in again.names)
    # Nothing is written into the store.
    assert {path.name for path in plate.iterdir()} == {".zattrs", ".zgroup", "A"}


def test_files_may_be_chosen(folder):
    files = [folder / "b.tif", folder / "a.tif"]
    assert Project(*folder_of(files)).names == ["a.tif", "b.tif"]
    assert folder_of([folder]) == (folder, None)
