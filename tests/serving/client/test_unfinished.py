import pytest

from napari_unet.serving.client.unfinished import UnfinishedJob, UnfinishedJobs


@pytest.fixture
def unfinished():
    return UnfinishedJob("ab12", "mine", "mine@1", "/a/server.json", "gpu", ((), (3, 1)))


def test_a_job_stays_until_it_is_removed(tmp_path, unfinished):
    jobs = UnfinishedJobs(tmp_path / "jobs")
    assert jobs.all() == []
    jobs.add(unfinished)
    assert UnfinishedJobs(tmp_path / "jobs").all() == [unfinished]
    jobs.remove(unfinished)
    jobs.remove(unfinished)
    assert jobs.all() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "napari-unet pending 1"}'])
def test_other_files_are_left_alone(tmp_path, unfinished, text):
    jobs = UnfinishedJobs(tmp_path)
    jobs.add(unfinished)
    (tmp_path / "other.json").write_text(text)
    assert jobs.all() == [unfinished]
    assert (tmp_path / "other.json").exists()
