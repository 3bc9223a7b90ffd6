import pytest

from napari_unet.remote.unfinished import Pending, PendingJobs


@pytest.fixture
def note():
    return Pending("ab12", "mine", "mine@1", "/a/server.json", "gpu", ((), (3, 1)))


def test_a_note_stays_until_it_is_removed(tmp_path, note):
    jobs = PendingJobs(tmp_path / "notes")
    assert jobs.all() == []
    jobs.add(note)
    assert PendingJobs(tmp_path / "notes").all() == [note]
    jobs.remove(note)
    jobs.remove(note)
    assert jobs.all() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "napari-unet pending 1"}'])
def test_other_files_are_left_alone(tmp_path, note, text):
    jobs = PendingJobs(tmp_path)
    jobs.add(note)
    (tmp_path / "other.json").write_text(text)
    assert jobs.all() == [note]
    assert (tmp_path / "other.json").exists()
