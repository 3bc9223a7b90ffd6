"""What is told of a fine-tune, and the way back to the parent."""

from __future__ import annotations

import pytest

from napari_unet.learning.finetune import Improvement
from napari_unet.learning.validation import Check, Verdict
from napari_unet.plugin.results.versions import Versions


def check(before, after, n_places=5, weak=False) -> Check:
    return Check(before=before, after=after, noise=0.01, n_places=n_places, weak=weak)


@pytest.fixture
def learnt(add_model, store):
    parent = add_model("tiny")
    child = add_model("tiny", parent=parent.sha256())

    def make(accepted, *checks) -> Improvement:
        # What was added last stays, with its mark where it is refused.
        content = child.path.read_bytes()
        store.remove(child)
        store.add("tiny", lambda path: path.write_bytes(content), activate=accepted)
        return Improvement(
            child, parent, Verdict(accepted, "it is so"), *checks, steps=9, compute="cpu"
        )

    return make


def test_both_numbers_are_told(learnt, store):
    versions = Versions(store)
    assert versions.learnt(learnt(True, check(0.41, 0.83), check(0.88, 0.87)), "a") == (
        'New model "tiny", version 2, is ready: 83 % on 5 test cells (before 41 %); '
        "87 % on earlier corrections (before 88 %)"
    )
    assert versions.can_go_back
    assert versions.learnt(learnt(True, check(0, 1, 1, weak=True), None), "a") == (
        'New model "tiny", version 2, is ready: 100 % on 1 test cell (before 0 %); '
        "one cell is too few to be sure"
    )
    assert versions.learnt(learnt(True, None, None), "a") == (
        'New model "tiny", version 2, is ready: it is so'
    )


def test_a_refusal_tells_why_and_with_which_numbers(learnt, store):
    versions = Versions(store)
    assert versions.learnt(learnt(False, check(0.83, 0.41), None), "a") == (
        "The old model stays in use: it is so"
    )
    assert versions.scores == "41 % on 5 test cells (before 83 %)"
    assert versions.refused is not None
    assert not versions.can_go_back
    assert versions.use_refused().version == 2
    assert store.find("tiny").version == 2
    assert versions.can_go_back
    with pytest.raises(ValueError, match="no new version to use"):
        versions.use_refused()


def test_the_way_back(learnt, store):
    versions = Versions(store)
    versions.learnt(learnt(True, None, None), "a")
    parent, choice = versions.go_back("tiny")
    assert (parent.reference, choice) == ("tiny@1", "tiny")
    assert store.find("tiny").version == 1
    assert not versions.can_go_back
    with pytest.raises(ValueError, match="no earlier version"):
        versions.go_back("tiny")


def test_the_way_back_passes_over_what_was_refused(store, add_model, write_model):
    first = add_model("tiny")
    given = {"name": "tiny", "parent": first.sha256()}
    refused = store.add("tiny", lambda path: write_model(path, **given), activate=False)
    last = add_model("tiny", parent=refused.sha256())
    versions = Versions(store)
    versions.learnt(
        Improvement(last, refused, Verdict(True, "it is so"), None, None, steps=9, compute="cpu"),
        "a",
    )
    assert versions.go_back("tiny") == (first, "tiny")
    assert store.find("tiny@2").refused


def test_the_way_back_after_a_restart_and_to_another_name(learnt, store, add_model):
    learnt(True, None, None)
    store.activate(store.find("tiny@1"))
    own = add_model("own", parent=store.find("tiny@2").sha256())
    assert Versions(store).go_back("own")[1] == "tiny@2"
    assert store.find("own").version == own.version
    assert Versions(store).go_back("tiny@2")[1] == "tiny"
