from pathlib import Path

import pytest

from napari_unet.serving.jsons import Unfit
from napari_unet.serving.server.job import ServedJob, begins_in, in_turns, read_job
from napari_unet.serving.server.limits import Rate


def job(number, person, folder=Path()):
    return ServedJob(
        person=person, kind="segment", created="2026-01-01", number=number,
        folder=folder / f"{number:032x}", files=frozenset({"a" * 64}),
    )  # fmt: skip


def test_people_take_turns():
    jobs = [job(n, p) for n, p in enumerate(["anna", "anna", "anna", "ben", "carl", "ben"])]
    order = [f"{each.person}{each.number}" for each in in_turns(jobs, {})]
    assert order == ["anna0", "ben3", "carl4", "anna1", "ben5", "anna2"]
    # Anna had the last turn, and Ben the one before.
    order = [each.person for each in in_turns(jobs, {"anna": 2, "ben": 1})]
    assert order == ["carl", "ben", "anna", "ben", "anna", "anna"]


def test_when_a_job_is_expected_to_begin(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    running, first, second = (job(n, "anna") for n in range(3))
    running.state, running.started = "running", 70.0
    took = {"segment": [20.0, 40.0, 600.0]}
    assert begins_in([running], took, 1) == 10.0
    assert begins_in([running, first, second], took, 1) == 90.0
    assert begins_in([running, first, second], took, 2) == 45.0
    running.started = 1.0
    assert begins_in([running], took, 1) == 0.0, "it takes longer than the others"
    first.kind = "train"
    assert begins_in([running, first], took, 1) is None


def test_a_job_is_read_again(tmp_path):
    known = job(7, "anna", tmp_path)
    known.folder.mkdir()
    (known.folder / "request.json").write_text(f'{{"sha256": "{"a" * 64}"}}')
    known.state, known.begun, known.given = "running", 1, {"image 0": "b" * 64}
    known.save()
    again = read_job(known.folder)
    for name in ("id", "person", "kind", "created", "number", "files", "state", "begun", "given"):
        assert getattr(again, name) == getattr(known, name)
    known.state = "cancelled"
    known.save()
    with pytest.raises(Unfit, match="being deleted"):
        read_job(known.folder)


def test_so_many_calls_at_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rate = Rate(2.0, 3)
    assert [rate.takes("a") for _ in range(5)] == [True, True, True, False, False]
    assert rate.takes("b")
    now[0] = 1.0
    assert [rate.takes("a") for _ in range(3)] == [True, True, False]
