"""A fine-tune that is cut short goes on later as if nothing had happened."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.corrections.collection import collection_of
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.learning import cut_short, lesson
from napari_unet.learning.training import NewModel
from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import parse_metadata
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

SOON = 100.0
TINY = NewModel(depth=1, width=4, dropout=0.1, distance=True)
SETTINGS = FinetuneConfig(
    steps=50, seconds=None, tile_px=60, learning_rate=1e-2, warmup_steps=5, device="cpu",
    precision="float32", anchor=0.5,
)  # fmt: skip


def weights(version):
    return load_model(version.path)[0].state_dict()


def same(one, other):
    one, other = weights(one), weights(other)
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def weak(service, blobs):
    config = dataclasses.replace(SETTINGS, steps=2)
    item = annotate(blobs()[0], "YX", blobs()[1])
    return service.train([item], "weak", config, TINY, ["blobs, CC0"]).wait(SOON).model


@pytest.fixture
def given(blobs):
    def given(seed=0):
        image, labels = blobs(seed)
        return dataclasses.replace(annotate(image, "YX", labels), name=f"image {seed}")

    return given


@pytest.fixture
def saved_often(monkeypatch):
    """The state is saved before each step."""
    monkeypatch.setattr(cut_short, "_EVERY_S", 0.0)
    monkeypatch.setattr(cut_short, "_SHARE", 1e9)


@pytest.fixture
def cut(service, saved_often):
    """Cuts a fine-tune short, as closing napari does, after so many steps."""

    def cut(step, annotated, name, config=SETTINGS):
        job = service.finetune(annotated, "weak", config, name)
        losses = []

        def watch(told):
            losses.extend([told.loss] if told.loss is not None else [])
            if len(losses) == step:
                service.servers.local.leave()
                job.cancel()

        job.progressed.connect(watch)
        with pytest.raises(JobCancelled):
            job.wait(SOON)

    return cut


# What a run can be in the middle of: few cells, of which two halves are held out in turn; more
# cells; so many that the best weights are kept; a running mean of the weights; other optimisers.
KINDS = {
    "two folds": (99, 40, {}),
    "one fold": (0, 40, {}),
    "plenty": (0, 10, {"average": 0.9}),
    "mean": (0, 40, {"average": 0.9}),
    "momentum": (0, 40, {"optimiser": "sgd", "learning_rate": 1e-4, "batch": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "step"), [*((k, 33) for k in KINDS), ("two folds", 1), ("two folds", 15)]
)
def test_it_gives_the_weights_of_one_that_was_not_cut_short(
    service, store, weak, given, cut, monkeypatch, kind, step
):
    few, plenty, changes = KINDS[kind]
    monkeypatch.setattr(lesson, "_FEW", few)
    monkeypatch.setattr(lesson, "_PLENTY", plenty)
    config = dataclasses.replace(SETTINGS, **changes)
    items = [given(seed) for seed in range(3 if plenty == 10 else 1)]
    cut(step, items, "cut", config)
    (found,) = service.cut_short()
    assert (found.name, found.parent, found.step, found.steps) == ("cut", weak, step, 50)
    # In another process, as far as can be.
    other = SegmentationService(ModelStore(store.root))
    steps = []
    job = other.resume("cut")
    job.progressed.connect(lambda told: steps.append(told.loss) if told.loss is not None else None)
    done = job.wait(SOON)
    assert other.cut_short() == []
    assert len(steps) == 50 - step
    expected = other.finetune(items, "weak", config, "whole").wait(SOON)
    assert same(done.model, expected.model)
    assert (done.verdict, done.check, done.steps) == (
        expected.verdict, expected.check, expected.steps,
    )  # fmt: skip
    assert done.model.header.postprocess == expected.model.header.postprocess
    assert done.parent == weak
    other.close()


@pytest.mark.slow
def test_of_a_budget_in_seconds_the_time_that_was_used_counts(
    service, weak, given, cut, slow_machine
):
    slow_machine(0.5)
    config = dataclasses.replace(SETTINGS, steps=None, seconds=30.0)
    cut(20, [given()], "cut", config)
    (found,) = service.cut_short()
    assert (found.step, found.elapsed_s, found.seconds) == (20, 10.0, 30.0)
    job = service.resume("cut")
    messages = []
    job.progressed.connect(lambda told: messages.append(told.message))
    done = job.wait(SOON)
    assert next(m for m in messages if m.startswith("Training")).startswith("Training 0:10 of 0:30")
    assert done.steps == 60
    assert service.reproduce(done.model).wait(SOON)


@pytest.mark.slow
def test_the_file_goes_when_the_fine_tune_ends(service, store, weak, given, cut):
    def files():
        return [path.name for path in store.root.rglob("*.state")]

    for act in (lambda job: job.finish(), lambda job: job.cancel()):
        job = service.finetune([given()], "weak", SETTINGS, "mine")
        there = []

        def watch(told, job=job, act=act, there=there):
            if told.loss is not None and not there:
                there.extend(files())
                act(job)

        job.progressed.connect(watch)
        with contextlib.suppress(JobCancelled):
            job.wait(SOON)
        assert there == ["training.state"]
        assert files() == []
    diverging = dataclasses.replace(SETTINGS, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(JobFailed, match="training diverged"):
        service.finetune([given()], "weak", diverging).wait(SOON)
    assert files() == []
    cut(3, [given()], "cut")
    service.discard_cut_short("cut")
    assert files() == [] == service.cut_short()
    # A new fine-tune of the model takes its place.
    cut(3, [given()], "cut")
    cut(4, [given()], "cut")
    assert [each.step for each in service.cut_short()] == [4]
    service.finetune([given()], "weak", SETTINGS, "cut").wait(SOON)
    assert files() == []
    with pytest.raises(JobFailed, match="no fine-tune of cut was cut short; start a new one"):
        service.resume("cut").wait(SOON)


@pytest.mark.slow
def test_what_fails_late_can_go_on_and_what_fails_at_once_is_forgotten(
    service, weak, given, monkeypatch, saved_often
):
    def full(path, *args, **kwargs):
        raise OSError(28, "No space left on device")

    from napari_unet.models import checkpoint

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_model", full)
        with pytest.raises(JobFailed, match="No space left on device"):
            service.finetune([given()], "weak", SETTINGS, "cut").wait(SOON)
    assert [each.step for each in service.cut_short()] == [49]
    assert service.resume("cut").wait(SOON).steps == 50
    # A disk on which no state can be saved does not end the training.
    monkeypatch.setattr(cut_short.Saving, "_write", full)
    assert service.finetune([given()], "weak", SETTINGS, "other").wait(SOON).steps == 50


@pytest.mark.slow
def test_what_is_not_as_it_was_is_not_offered_and_refused_with_a_sentence(
    service, store, weak, given, cut, monkeypatch
):
    cut(5, [given()], "cut")
    path = store.root / "cut" / "training.state"

    def is_refused(words):
        assert service.cut_short() == []
        with pytest.raises(JobFailed, match=words):
            service.resume("cut").wait(SOON)
        assert store.versions("cut") == []
        assert path.exists()

    other = path.with_name("elsewhere")
    # Corrections that came since.
    collection = collection_of(store, "cut")
    (added,) = collection.add(given(7), 0)
    is_refused("the corrections of cut were changed since")
    collection.remove(added.key)
    assert len(service.cut_short()) == 1
    # The parent.
    weak.path.rename(other)
    is_refused("began with weak@1, which is not here any more")
    other.rename(weak.path)
    # Another process at work.
    with monkeypatch.context() as patch:
        patch.setattr(cut_short, "this_process", lambda: "00000000-1")
        is_refused("the fine-tune of cut is still running")
        os.utime(path, (0, 0))
        assert len(service.cut_short()) == 1
    # The version was added, and the program was killed before the file was deleted.
    content = path.read_bytes()
    time.sleep(1)  # a header tells the time to the second
    service.resume("cut").wait(SOON)
    path.write_bytes(content)
    assert service.cut_short() == []
    assert not path.exists()


@pytest.mark.slow
def test_a_model_may_be_renamed_meanwhile_and_the_command_line_goes_on(
    service, store, weak, given, cut, call
):
    cut(5, [given()], "weak")
    store.rename("weak", "strong")
    (found,) = service.cut_short()
    assert (found.name, found.parent.reference) == ("strong", "strong@1")
    status, _, stderr = call("models", "resume", "weak")
    assert status == 1
    assert "no fine-tune of weak was cut short; choose one of: strong" in stderr
    status, stdout, _ = call("models", "resume", "strong")
    assert status == 0
    assert service.cut_short() == []
    assert stdout.startswith(f"strong@2: 50 steps -> {store.root / 'strong' / '0002.safetensors'}")


def changed(content, **changes):
    """The content of a state file with other facts or tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors, facts = load(content), json.loads(metadata["napari_unet_training"])
    run = facts["run"]
    for name, value in changes.items():
        for table in (facts, run, run["trainer"], tensors):
            table |= {name: value} if name in table else {}
    header = parse_metadata(metadata)
    facts["checksum"] = cut_short.checksum(tensors, run, header)
    return save(tensors, metadata | {"napari_unet_training": json.dumps(facts)})


@pytest.mark.slow
def test_a_broken_file_is_never_used(service, store, weak, given, cut, monkeypatch):
    cut(40, [given()], "cut")
    path = store.root / "cut" / "training.state"
    whole = path.read_bytes()
    weight = "trainer.network.head.weight"
    moment = "trainer.optimiser.0.exp_avg_sq"
    shape = load(whole)[weight].shape
    broken = [
        b"",
        whole[: len(whole) // 2],
        whole[:-1],
        whole[:-2] + bytes([whole[-2] ^ 1, whole[-1]]),
        whole.replace(b'"format\\":1', b'"format\\":2', 1).replace(b"F32", b"I32", 1),
        changed(whole, format=2),
        whole.replace(b'\\"seed\\": 0', b'\\"seed\\": 1', 1),
        changed(whole, saved="yesterday"),
        changed(whole, elapsed_s=float("nan")),
        changed(whole, run=[]),
        changed(whole, planned=None),
        changed(whole, random=["00"] * 6),
        changed(whole, folds=None),
        changed(whole, best=[0.5, 3]),
        changed(whole, held_out=torch.zeros(3)),
        changed(whole, step="many"),
        changed(whole, **{weight: torch.full(shape, float("nan"))}),
        changed(whole, **{weight: torch.zeros(3)}),
        changed(whole, **{moment: -load(whole)[moment] - 1}),
        changed(whole, **{moment: torch.zeros(2)}),
        changed(whole, losses=torch.zeros(1 << 16)),
    ]
    monkeypatch.setattr(cut_short, "_MORE", 1 << 12)
    for number, content in enumerate(broken):
        path.write_bytes(content)
        with pytest.raises(JobFailed, match=r"the state of the fine-tune of cut .* cannot be used"):
            print(number, service.resume("cut").wait(SOON))
    assert store.versions("cut") == []
    path.write_bytes(whole)
    assert service.resume("cut").wait(SOON).steps == 50


KILLED = """
import sys

import numpy as np

from napari_unet.corrections.annotations import annotate
from napari_unet.learning import cut_short
from napari_unet.service.segmentation import SegmentationService

sys.path.insert(0, sys.argv[1])
from test_cut_short import SETTINGS

cut_short._EVERY_S, cut_short._SHARE = 0.0, 1e9
image, labels = np.load(sys.argv[2])
service = SegmentationService()
if service.cut_short():
    job = service.resume("cut")
else:
    job = service.finetune([annotate(image, "YX", labels)], "weak", SETTINGS, "cut")
job.progressed.connect(lambda told: told.loss is None or print("step", flush=True))
job.wait(100)
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9")
def test_a_process_that_is_killed_again_and_again_loses_nothing(
    service, store, weak, blobs, tmp_path
):
    given = np.stack([part.astype(np.int32) for part in blobs()])
    np.save(tmp_path / "given.npy", given)
    arguments = (str(Path(__file__).parent), str(tmp_path / "given.npy"))
    steps, rng = [], random.Random(0)
    # Killed in the first step, around the end of each half that is held out, and wherever it is.
    for kill_after in (0, 16, 18, 100):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True
        ) as process:
            lines = iter(process.stdout.readline, "")
            done = [line for _, line in zip(range(kill_after), lines, strict=False)]
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            done += lines
        assert process.returncode == (0 if kill_after == 100 else -signal.SIGKILL)
        # What is found is never a broken file.
        service = SegmentationService(ModelStore(store.root))
        steps.append([each.step for each in service.cut_short()])
    assert done[-1] == "done\n"
    assert steps[-1] == [] == list((store.root / "cut").glob("*.state*"))
    (version,) = store.versions("cut")
    expected = service.finetune([annotate(given[0], "YX", given[1])], "weak", SETTINGS, "whole")
    assert same(version, expected.wait(SOON).model), steps
    reached = [step for (step,) in steps[1:-1]]
    assert reached == sorted(reached)
    assert reached[-1] > 30


def test_one_that_is_cancelled_again_can_be_kept(service, weak, given, cut):
    cut(5, [given()], "cut")
    for keep, expected in ((True, [9]), (False, [])):
        job = service.resume("cut", keep=keep)
        losses = []

        def watch(told, job=job, losses=losses):
            losses.extend([told.loss] if told.loss is not None else [])
            if len(losses) == 4:
                job.cancel()

        job.progressed.connect(watch)
        with pytest.raises(JobCancelled):
            job.wait(SOON)
        assert [each.step for each in service.cut_short()] == expected
