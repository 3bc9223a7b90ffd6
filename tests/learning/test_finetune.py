import dataclasses
import threading

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import Annotated, Correction, annotate
from napari_unet.corrections.collection import collection_of
from napari_unet.engine.trainer import Trainer
from napari_unet.jobs import JobCancelled, JobFailed
from napari_unet.learning import finetune, lesson
from napari_unet.learning import run as running
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.learning.run import Run
from napari_unet.learning.training import NewModel
from napari_unet.learning.validation import Check, Verdict
from napari_unet.models import store as model_store
from napari_unet.models.checkpoint import load_model

SOON = 100.0
TINY = NewModel(depth=1, width=4, dropout=0.1, distance=False)
SETTINGS = FinetuneConfig(
    steps=20, seconds=None, tile_px=60, learning_rate=1e-2, warmup_steps=5, device="cpu",
    precision="float32", anchor=0.5,
)  # fmt: skip
EXACT = PredictConfig(device="cpu", precision="float32")


def weights(version):
    network, _ = load_model(version.path)
    return torch.cat([p.flatten() for p in network.state_dict().values()])


@pytest.fixture
def weak(service, blobs):
    """A model that has learnt nearly nothing."""
    item = annotate(blobs()[0], "YX", blobs()[1])
    config = dataclasses.replace(SETTINGS, steps=2)
    return service.train([item], "weak", config, TINY, ["blobs, CC0"]).wait(SOON).model


@pytest.fixture
def given(blobs):
    """An image and its labels, as corrected: `given(seed)`."""

    def given(seed=0, trusted=None, **kwargs):
        image, labels = blobs(seed, **kwargs)
        item = annotate(image, "YX", labels, trusted)
        return dataclasses.replace(item, name=f"image {seed}")

    return given


@pytest.fixture
def taught(monkeypatch):
    """Planes that trainers were given, one list for each time."""
    seen = []
    begin, later = running.start_training, Trainer.learn_from

    def start(model, planes, *args):
        seen.append(list(planes))
        return begin(model, planes, *args)

    def learn_from(self, planes):
        seen.append(list(planes))
        later(self, planes)

    monkeypatch.setattr(running, "start_training", start)
    monkeypatch.setattr(Trainer, "learn_from", learn_from)
    return seen


@pytest.fixture
def lessons(monkeypatch):
    """Lessons that were prepared."""
    seen = []
    prepare = finetune.prepare
    monkeypatch.setattr(finetune, "prepare", lambda *args: seen.append(prepare(*args)) or seen[-1])
    return seen


def after_steps(job, count, act):
    """Do something in the job's thread after so many steps."""
    steps = []

    def listener(progress):
        if progress.loss is not None:
            steps.append(progress)
            if len(steps) == count:
                act()

    job.progressed.connect(listener)
    return steps


@pytest.fixture
def held_back(service):
    """Jobs wait until `held_back.set()`."""
    hold = threading.Event()
    service._runner.submit("before", lambda job: hold.wait(SOON))
    return hold


@pytest.mark.parametrize("best", [0.2, 0.6, None])
def test_a_version_is_read_out_as_seen_cells_tell_and_checked_like_its_parent(
    service, weak, given, monkeypatch, best
):
    def teach(name):
        return service.finetune([given(1), given(2)], weak, SETTINGS, name).wait(SOON)

    plain = teach("plain")
    assert 0.15 <= plain.model.header.postprocess["threshold"] <= 0.6
    found = {} if best is None else {"threshold": best}
    monkeypatch.setattr(running, "thresholds_for", lambda *args, resized: found)
    done = teach("other")
    assert done.model.header.postprocess["threshold"] == (best or 0.35)
    assert done.check is not None
    assert (done.check, done.verdict) == (plain.check, plain.verdict)


def test_a_version_finds_cells_as_the_user_asked(service, weak, given):
    asked = dataclasses.replace(SETTINGS, threshold=0.7, min_size_px=30, diameter_px=12.0)
    done = service.finetune([given(1)], weak, asked).wait(SOON)
    header = done.model.header
    assert header.postprocess["threshold"] == 0.7
    assert header.zoom != 1
    assert header.postprocess["min_size_px"] == round(30 * header.zoom**2)
    assert service.reproduce(done.model).wait(SOON)


def test_a_steady_parent_keeps_its_way_of_reading_out(service, add_model, blobs):
    """It finds the same cells in the image turned and resized, so it knows this kind."""
    image, labels = blobs()
    trusted = np.zeros(labels.shape, bool)
    trusted[:36] = True
    item = Annotated(image, "YX", (Correction((), labels, trusted),), "image")
    done = service.finetune([item], add_model("m"), SETTINGS).wait(SOON)
    kept = done.parent.header.postprocess
    assert kept == done.model.header.postprocess
    other = Annotated(image, "YX", (Correction((), labels),), "image")
    again = service.finetune([other], add_model("n"), SETTINGS).wait(SOON)
    assert again.model.header.postprocess != kept, "nothing was left to look at"


# What teaches, and what is held out


def test_with_few_cells_those_that_judge_teach_in_the_end(service, weak, given, taught, lessons):
    done = service.finetune([given()], "weak", SETTINGS).wait(SOON)
    (what,) = lessons
    assert what.split.n_units > 0
    assert what.n_cells < lesson._PLENTY
    first, later = taught
    for plane, held in zip(first, what.split.held, strict=True):
        assert not plane.seen[held > 0].any()
        assert not plane.labels[held > 0].any()
    assert [plane.seen for plane in later] == [None], "all was seen, and all teaches"
    assert done.check.n_places == what.split.n_units
    assert done.steps == 20


@pytest.mark.parametrize(
    ("few", "expected"),
    [
        (0, [*[1] * 18, "check", "teach", *[1] * 32]),
        # Of a few each is held out once: half of them, then the rest by a model that begins anew.
        (99, [*[1] * 10, "check", "teach", *[1] * 10, "check", "teach", *[1] * 30]),
    ],
)
def test_what_judges_does_so_before_it_teaches(service, weak, given, monkeypatch, few, expected):
    asked = []
    count = running.count
    learn_from = Trainer.learn_from
    monkeypatch.setattr(running, "count", lambda *args: asked.append("check") or count(*args))
    monkeypatch.setattr(
        Trainer,
        "learn_from",
        lambda *args, **how: asked.append("teach") or learn_from(*args, **how),
    )
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *args: asked.append(1) or step(*args))
    monkeypatch.setattr(lesson, "_FEW", few)
    config = dataclasses.replace(SETTINGS, steps=50, tile_px=236)
    service.finetune([given()], "weak", config).wait(SOON)
    assert asked == ["check", *expected, "check"], "the last one on all that was learnt"


def test_with_plenty_what_judges_never_teaches(service, weak, given, taught, lessons, monkeypatch):
    monkeypatch.setattr(lesson, "_PLENTY", 10)
    service.finetune([given(seed) for seed in range(4)], "weak", SETTINGS).wait(SOON)
    (what,) = lessons
    assert what.split.n_units >= 10
    (first,) = taught
    assert len(first) == 3, "one image of four is held out"
    for plane in first:
        assert plane.seen.all()
    (held_out,) = [p for p, held in zip(what.planes, what.split.held, strict=True) if held.any()]
    assert not any(np.array_equal(plane.image, held_out.image) for plane in first)


def test_with_plenty_the_best_weights_are_kept(service, weak, given, monkeypatch):
    monkeypatch.setattr(lesson, "_PLENTY", 10)
    kept = []
    keep = Run._keep_better

    def spy(run, step):
        state = [p.detach().clone() for p in run._model.network.state_dict().values()]
        keep(run, step)
        kept.append((run._best[0], run._best[1], step, torch.cat([p.flatten() for p in state])))

    monkeypatch.setattr(Run, "_keep_better", spy)
    config = dataclasses.replace(SETTINGS, steps=60, learning_rate=0.05)
    done = service.finetune([given(seed) for seed in range(4)], "weak", config).wait(SOON)
    assert len(kept) > 3
    best, step = kept[-1][:2]
    assert done.steps == done.model.header.steps == step
    assert done.check.after == pytest.approx(best)
    (chosen,) = [state for _, _, at, state in kept if at == step]
    assert torch.equal(weights(done.model), chosen)


def test_with_plenty_no_gain_ends_the_training(service, weak, given, monkeypatch):
    monkeypatch.setattr(lesson, "_PLENTY", 10)
    monkeypatch.setattr("napari_unet.core.cells.metrics.kappa", lambda counts: 0.5)
    job = service.finetune([given(s) for s in range(4)], "weak", SETTINGS)
    steps = after_steps(job, 10**6, lambda: None)
    done = job.wait(SOON)
    assert done.steps == 10, "the check in the middle, the fourth without a gain"
    assert len(steps) <= 11


def test_nothing_held_out_means_no_check(service, weak, given, taught):
    config = dataclasses.replace(SETTINGS, steps=2, held_out=0.0)
    done = service.finetune([given(0), given(1)], "weak", config).wait(SOON)
    assert (done.check, done.replay) == (None, None)
    assert done.verdict.accepted
    assert "not checked" in done.verdict.why
    assert len(taught) == 1


def test_a_single_cell_cannot_be_checked_and_is_not_enough(service, weak, given, blobs):
    trusted = np.zeros((72, 80), bool)
    trusted[2:20, 2:20] = True
    config = dataclasses.replace(SETTINGS, steps=40)
    done = service.finetune([given(trusted=trusted)], "weak", config).wait(SOON)
    assert (done.check, done.replay, done.verdict.accepted) == (None, None, False)
    assert "one corrected cell cannot show" in done.verdict.why


def test_what_could_not_be_learnt_is_refused(service, store, weak, given):
    config = dataclasses.replace(SETTINGS, steps=1, learning_rate=1e-9)
    done = service.finetune([given()], "weak", config).wait(SOON)
    assert not done.verdict.accepted
    assert "of what was painted" in done.verdict.why
    assert store.find("weak") == weak


def test_slices_of_one_image_are_cut_at_the_same_place(service, weak, lessons):
    # Of each slice only a part is kept around what was seen there, and not the same part.
    rng = np.random.default_rng(0)
    rows, columns = np.indices((60, 900))
    labels = np.zeros((2, 60, 900), np.int32)
    trusted = np.zeros(labels.shape, bool)
    for z, start in enumerate((20, 400)):
        for x in range(start, start + 450, 30):
            cell = (rows - 30) ** 2 + (columns - x) ** 2 <= 36
            labels[z][cell] = x
            trusted[z] |= (rows - 30) ** 2 + (columns - x) ** 2 <= 100
    image = (rng.normal(30, 4, labels.shape) + 170 * (labels > 0)).astype(np.uint8)
    config = dataclasses.replace(SETTINGS, steps=2, diameter_px=24.0)
    item = annotate(image, "ZYX", labels, trusted)
    service.finetune([item], "weak", config).wait(SOON)
    (what,) = lessons
    assert what.split.n_units > 0
    assert not what.split.weak
    teaches, checks = np.zeros((2, 900), bool)
    for z, (learn, held) in enumerate(zip(what.split.learn, what.split.held, strict=True)):
        first = max(np.flatnonzero(trusted[z].any(0))[0] - 60, 0)
        teaches[first : first + learn.shape[1]] |= learn.any(0)
        checks[first : first + learn.shape[1]] |= held.any(0)
    assert not (teaches & checks).any()


# From one fine-tune to the next


def test_every_fine_tune_learns_from_all_corrections(service, store, weak, given, taught):
    config = dataclasses.replace(SETTINGS, steps=2, held_out=0.0)
    first = service.finetune([given(0)], "weak", config).wait(SOON).model
    second = service.finetune([given(1)], "weak", config).wait(SOON).model
    assert [len(planes) for planes in taught] == [1, 2]
    entries = collection_of(store, "weak").entries()
    assert [e.image for e in entries] == ["image 0", "image 1"]
    assert set(first.header.corrections) < set(second.header.corrections)
    # A plane that is corrected again counts once, as it is now.
    service.finetune([given(0)], "weak", config).wait(SOON)
    assert len(taught[-1]) == 2


def test_a_model_of_another_name_begins_with_its_parents_corrections(
    service, store, weak, given, taught
):
    config = dataclasses.replace(SETTINGS, steps=2, held_out=0.0)
    service.finetune([given(0)], "weak", config).wait(SOON)
    service.finetune([given(1)], "weak", config, "mine").wait(SOON)
    assert [len(planes) for planes in taught] == [1, 2]
    assert len(collection_of(store, "weak").entries()) == 1
    assert len(collection_of(store, "mine").entries()) == 2


@pytest.mark.slow
def test_what_was_corrected_earlier_is_checked_apart(service, weak, given, lessons):
    first = service.finetune([given(0), given(1)], "weak", SETTINGS).wait(SOON)
    assert first.check is not None
    assert first.replay is None
    assert not lessons[0].known.any()
    second = service.finetune([given(2)], first.model, SETTINGS).wait(SOON)
    what = lessons[-1]
    checks = np.unique(np.concatenate([units[units > 0] for units in what.held_out(what.split)]))
    assert second.check.n_places == (~what.known[checks - 1]).sum() == len(checks)
    assert second.replay.n_places == what.known.sum() == len(lessons[0].known)
    assert second.model.header.scores == {
        "held_out_before": second.check.before,
        "held_out_after": second.check.after,
        "replay_before": second.replay.before,
        "replay_after": second.replay.after,
    }


def test_what_ships_stays_as_it_is(service, store, write_model, given):
    model_store.SHIPPED.mkdir(exist_ok=True)
    path = model_store.SHIPPED / "nuclei.safetensors"
    write_model(path, name="nuclei", width=4)
    before = path.read_bytes()
    config = dataclasses.replace(SETTINGS, steps=2)
    done = service.finetune([given()], "nuclei", config).wait(SOON)
    assert done.model.reference == "my-nuclei@1"
    assert done.model.header.name == "my-nuclei"
    assert store.parent(done.model) == store.find("nuclei") == done.parent
    assert path.read_bytes() == before
    assert not (store.root / "nuclei").exists()
    again = service.finetune([given(1)], "my-nuclei", config).wait(SOON)
    assert again.model.reference == "my-nuclei@2"
    assert len(again.model.header.corrections) == 2


# The verdict


@pytest.fixture
def good(service, given):
    """A model that has learnt what cells are."""
    config = dataclasses.replace(SETTINGS, steps=80, balance=0.5)
    return service.train([given(s) for s in range(2)], "good", config, TINY).wait(SOON).model


@pytest.mark.slow
def test_labels_of_another_image_are_refused(service, store, good, given, blobs):
    items = []
    for seed in range(3):
        image, labels = blobs(seed)
        # As many cells, elsewhere.
        wrong = np.roll(labels, (10, 10), (0, 1))
        items.append(dataclasses.replace(annotate(image, "YX", wrong), name=f"image {seed}"))
    config = dataclasses.replace(SETTINGS, diameter_px=24.0, learning_rate=1e-3)
    right = service.finetune([given(s) for s in range(3)], good, config, "other").wait(SOON)
    assert right.verdict.accepted
    assert store.find("other") == right.model
    done = service.finetune(items, "good", config).wait(SOON)
    assert done.check.after < 0.3
    assert not done.verdict.accepted
    assert store.find("good") == good, "it is stored, and not used"
    assert [v.version for v in store.versions("good")] == [1, 2]
    assert done.model == store.find("good@2")


def test_a_refused_version_is_stored_and_not_used(service, store, weak, given, monkeypatch):
    worse = Check(0.9, 0.5, 0.0, 9, False)
    refused = Verdict(False, "it is worse")
    monkeypatch.setattr(Run, "verdict", lambda run: (refused, None, worse))
    config = dataclasses.replace(SETTINGS, steps=2)
    done = service.finetune([given()], "weak", config).wait(SOON)
    assert (done.verdict, done.check, done.replay) == (refused, None, worse)
    assert store.find("weak") == weak


def test_a_refused_fine_tune_of_what_ships_takes_no_name(
    service, store, write_model, given, blobs, monkeypatch
):
    model_store.SHIPPED.mkdir(exist_ok=True)
    write_model(model_store.SHIPPED / "nuclei.safetensors", name="nuclei", width=4)
    config = dataclasses.replace(SETTINGS, steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "verdict", lambda run: (Verdict(False, "it is worse"), None, None))
        refused = service.finetune([given()], "nuclei", config).wait(SOON).model
    assert (refused.reference, refused.refused) == ("my-nuclei@1", True)
    with pytest.raises(ValueError, match="no version of 'my-nuclei' was accepted by its check"):
        service.segment(blobs()[0], "YX", "my-nuclei", EXACT)
    assert service.segment(blobs()[0], "YX", "my-nuclei@1", EXACT).wait(SOON).model == refused
    assert service.reproduce("my-nuclei@1").wait(SOON)
    again = service.finetune([given(1)], "nuclei", config).wait(SOON).model
    assert (again.reference, again.refused) == ("my-nuclei@2", False)
    assert len(again.header.corrections) == 2, "what was corrected for the refused one counts"
    assert store.find("my-nuclei") == again


# Ending early


def test_finish_keeps_what_was_learnt_so_far(service, store, weak, given, held_back):
    config = dataclasses.replace(SETTINGS, steps=10**6)
    job = service.finetune([given()], "weak", config)
    steps = after_steps(job, 3, job.finish)
    held_back.set()
    done = job.wait(SOON)
    assert done.steps == len(steps) == 3
    assert done.check is not None, "before its end the probation had not passed"
    assert store.versions("weak")[-1] == done.model
    assert not torch.equal(weights(done.model), weights(weak))


@pytest.mark.parametrize("budget", [{"steps": 9}, {"steps": None, "seconds": 60.0}])
def test_who_finishes_before_the_start_gets_one_step(service, weak, given, held_back, budget):
    config = dataclasses.replace(SETTINGS, **budget)
    job = service.finetune([given()], "weak", config)
    job.finish()
    held_back.set()
    done = job.wait(SOON)
    assert (done.steps, done.model.header.steps) == (1, 1)
    assert service.reproduce(done.model).wait(SOON)


def test_cancel_stores_no_version_but_keeps_the_corrections(service, store, weak, given, held_back):
    job = service.finetune([given()], "weak", dataclasses.replace(SETTINGS, steps=10**6))
    after_steps(job, 12, job.cancel)
    held_back.set()
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert store.versions("weak") == [weak]
    assert len(collection_of(store, "weak").entries()) == 1


# Once more


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"average": 0.9, "anchor": 1.0}, {"steps": None, "seconds": 1.5}, {"held_out": 0.0}],
)
def test_a_version_is_trained_again_bit_for_bit(service, weak, given, changes):
    trusted = np.ones((72, 80), bool)
    trusted[:, 60:] = False
    config = dataclasses.replace(SETTINGS, **changes)
    done = service.finetune([given(0, trusted)], "weak", config).wait(SOON)
    assert service.reproduce(done.model).wait(SOON)


@pytest.mark.slow
def test_a_run_that_got_more_time_is_trained_again(service, weak, given, slow_machine, held_back):
    slow_machine(1.5)
    config = dataclasses.replace(SETTINGS, steps=None, seconds=30.0, tile_px=236)
    job = service.finetune([given()], "weak", config)
    told = []

    def listen(progress):
        told.append(progress)
        # In the middle: many steps later than it was offered.
        if progress.loss is not None and "step 15 " in progress.message:
            job.extend(progress.too_short.enough_s)

    job.progressed.connect(listen)
    held_back.set()
    done = job.wait(SOON)
    steps = [p for p in told if p.loss is not None]
    assert next(str(p.too_short) for p in steps if p.too_short is not None) == (
        "30 s is enough for 20 steps on this computer; a fine-tune needs about 40: 2 minutes"
    )
    assert told[told.index(steps[0]) - 1].message.startswith(
        "Training 0:00 of 0:30, measuring the speed of this computer"
    )
    assert steps[7].message.startswith("Training 0:12 of 0:30, step 8 of about 20, held-out cells ")
    assert steps[20].message.startswith("Training 0:32 of 2:00, step 21 of about 80, held-out ")
    assert steps[20].too_short is None
    assert done.steps == len(steps) == 80
    assert service.reproduce(done.model).wait(SOON)


@pytest.mark.slow
@pytest.mark.parametrize("plenty", [1000, 10])
def test_a_run_until_it_stops_improving_is_trained_again(
    service, weak, given, monkeypatch, slow_machine, plenty
):
    monkeypatch.setattr(lesson, "_PLENTY", plenty)
    slow_machine(0.1)
    config = dataclasses.replace(
        SETTINGS, steps=160, seconds="auto", learning_rate=0.005, tile_px=236
    )
    job = service.finetune([given(seed) for seed in range(3)], "weak", config)
    told = []
    job.progressed.connect(told.append)
    done = job.wait(SOON)
    header = done.model.header
    assert (header.settings["seconds"], header.plans[0]) == (None, (9, 80))
    assert header.settings["steps"] == header.plans[-1][1] == 160, "it had not learnt it in 80"
    steps = [p for p in told if p.loss is not None]
    assert [p.fraction for p in steps] == sorted(p.fraction for p in steps)
    assert steps[49].message.startswith("Training 0:05 of at most 10:00, step 50, held-out cells ")
    assert steps[99].message.startswith("Training 0:10 of about 0:16, step 100, held-out cells ")
    if plenty == 10:
        scores = [p.held_out for p in steps]
        assert scores[0] < 0.5 < scores[-1] == done.check.after
    else:
        assert done.steps == header.settings["steps"] == len(steps)
    assert service.reproduce(done.model).wait(SOON)


@pytest.mark.slow
def test_what_gains_nothing_ends_after_its_first_leg(service, weak, given, slow_machine):
    slow_machine(0.1)
    config = dataclasses.replace(
        SETTINGS, steps=None, seconds="auto", learning_rate=1e-9, tile_px=236
    )
    done = service.finetune([given()], "weak", config).wait(SOON)
    assert (done.steps, dict(done.model.header.plans)) == (80, {9: 80, 18: 80, 36: 80, 72: 80})


@pytest.mark.slow
def test_the_second_fine_tune_is_trained_again_as_well(service, weak, given):
    # Which images are held out depends on which were corrected just now.
    for seed in range(4):
        done = service.finetune([given(seed)], "weak", SETTINGS).wait(SOON)
        assert service.reproduce(done.model).wait(SOON)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_best_of_plenty_is_trained_again(service, weak, given, monkeypatch, average):
    monkeypatch.setattr(lesson, "_PLENTY", 10)
    config = dataclasses.replace(SETTINGS, steps=40, learning_rate=0.05, average=average)
    done = service.finetune([given(seed) for seed in range(4)], "weak", config).wait(SOON)
    assert service.reproduce(done.model).wait(SOON)


def test_a_run_that_was_finished_is_trained_again(service, weak, given, held_back):
    job = service.finetune([given()], "weak", dataclasses.replace(SETTINGS, steps=50))
    after_steps(job, 30, job.finish)
    held_back.set()
    done = job.wait(SOON)
    assert (done.steps, done.model.header.settings["steps"]) == (30, 50)
    assert service.reproduce(done.model).wait(SOON)


def test_a_changed_weight_is_noticed(service, store, weak, given):
    from napari_unet.models.checkpoint import save_model

    config = dataclasses.replace(SETTINGS, steps=2)
    done = service.finetune([given()], "weak", config).wait(SOON)
    network, header = load_model(done.model.path)
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    save_model(done.model.path, network, header)
    assert not service.reproduce("weak@2").wait(SOON)


def test_a_changed_correction_is_noticed(service, store, weak, given):
    config = dataclasses.replace(SETTINGS, steps=2)
    done = service.finetune([given()], "weak", config).wait(SOON)
    (entry,) = collection_of(store, "weak").entries()
    _, labels, _ = collection_of(store, "weak").files(entry)
    content = bytearray(labels.read_bytes())
    content[len(content) // 2] ^= 1
    labels.write_bytes(content)
    job = service.reproduce(done.model)
    try:
        assert not job.wait(SOON)
    except JobFailed as error:
        assert entry.key in str(error)  # noqa: PT017
    collection_of(store, "weak").remove(entry.key)
    with pytest.raises(JobFailed, match="there is no correction"):
        service.reproduce(done.model).wait(SOON)


def test_what_was_not_fine_tuned_cannot_be_trained_again(service, weak):
    with pytest.raises(JobFailed, match="weak@1 cannot be trained again"):
        service.reproduce("weak").wait(SOON)


# Classes


@pytest.mark.slow
def test_a_new_class_is_learnt(service, weak, blobs):
    image, labels = blobs()
    # Half of the cells are half as bright, and are debris.
    kinds = dict.fromkeys(range(1, labels.max() + 1, 2), "debris")
    dim = np.isin(labels, list(kinds))
    image = np.where(dim, 100, image).astype(np.uint8)
    item = Annotated(image, "YX", (Correction((), labels, None, kinds),), "mixed")
    config = dataclasses.replace(SETTINGS, steps=250, balance=0.5)
    done = service.finetune([item], "weak", config).wait(SOON)
    header = done.model.header
    assert header.classes == ("background", "cell", "debris")
    assert header.architecture["n_classes"] == 3
    found = service.segment(image, "YX", done.model, EXACT).wait(SOON)
    assert len(found.kinds) == found.n_cells
    right = 0
    for number, kind in enumerate(found.kinds, start=1):
        true = np.bincount(labels[found.labels == number]).argmax()
        right += kind == kinds.get(int(true), "cell")
    assert right >= 0.8 * found.n_cells
    assert set(found.kinds) == {"cell", "debris"}
    assert service.reproduce(done.model).wait(SOON)
    # Who knows it need not learn it anew.
    again = service.finetune([item], done.model, dataclasses.replace(SETTINGS, steps=2))
    assert again.wait(SOON).model.header.classes == header.classes


# Sizes


@pytest.fixture
def large(blobs):
    """Cells of about 100 px: an image and its labels."""

    def large(seed=0):
        image, labels = blobs(seed, (60, 72), 6.0)
        ones = np.ones((8, 8), np.uint8)
        return np.kron(image, ones), np.kron(labels, ones.astype(np.int32))

    return large


def test_large_cells_are_made_small_for_the_network(service, add_model, large, lessons):
    parent = add_model("bright", width=4, diameter_px=12.0)
    image, labels = large()
    config = dataclasses.replace(SETTINGS, steps=2, learning_rate=1e-5)
    done = service.finetune([annotate(image, "YX", labels)], parent, config).wait(SOON)
    header = done.model.header
    assert header.diameter_px == pytest.approx(100, abs=15)
    assert header.zoom == pytest.approx(12 / header.diameter_px)
    shape = tuple(round(side * header.zoom) for side in image.shape)
    assert lessons[0].planes[0].labels.shape == shape
    # Images like those it was taught are resized from then on.
    found = service.segment(image, "YX", done.model, EXACT).wait(SOON)
    assert found.labels.shape == image.shape
    assert found.n_cells == labels.max()
    assert ((found.labels > 0) == (labels > 0)).mean() > 0.9
    assert found.diameter_px == pytest.approx(header.diameter_px, rel=0.2)
    # Other images are not, if it is told.
    small = image[::8, ::8]
    told = dataclasses.replace(EXACT, diameter_px=header.diameter_px / 8)
    assert service.segment(small, "YX", done.model, told).wait(SOON).n_cells == labels.max()
    # The next fine-tune begins with that size.
    second = service.finetune([annotate(*large(1)[:1], "YX", large(1)[1])], done.model, config)
    assert second.wait(SOON).model.header.zoom == header.zoom
    assert service.reproduce(done.model).wait(SOON)


def test_the_size_may_be_told(service, add_model, given):
    parent = add_model("bright", width=4)
    config = dataclasses.replace(SETTINGS, steps=2, diameter_px=20.0)
    header = service.finetune([given()], parent, config).wait(SOON).model.header
    assert (header.diameter_px, header.zoom) == (20.0, 1.2)


def test_cells_of_about_the_known_size_are_left_alone(service, add_model, given):
    parent = add_model("bright", width=4, diameter_px=14.0)
    config = dataclasses.replace(SETTINGS, steps=2)
    header = service.finetune([given()], parent, config).wait(SOON).model.header
    assert (header.diameter_px, header.zoom) == (14, 1)


# Slips of the brush


@pytest.mark.parametrize("factor", [1, 8])
def test_a_slip_is_shown_where_it_was_painted(service, add_model, blobs, factor):
    # The model knows what a cell is, and a stroke on nothing does not change its mind.
    add_model("bright", width=4, diameter_px=12.0)
    image, labels = blobs(shape=(150, 160))
    labels[70:82, 69:81] = labels.max() + 1
    painted = labels == labels.max()
    image = np.where((image > 120) & painted, 30, image).astype(np.uint8)
    labels = np.where(painted | (image > 120), labels, 0).astype(np.int32)
    trusted = np.zeros(labels.shape, bool)
    trusted[45:120, 50:130] = True
    ones = np.ones((factor, factor), np.uint8)
    image, labels, trusted = (np.kron(a, ones.astype(a.dtype)) for a in (image, labels, trusted))
    stack = np.stack([np.zeros_like(image), image])
    item = Annotated(stack, "ZYX", (Correction((1,), labels, trusted),), "cells")
    config = dataclasses.replace(SETTINGS, steps=1, learning_rate=1e-9, held_out=0.0, tile_px=22)
    done = service.finetune([item], "bright", config).wait(SOON)
    slip = done.slips[0]
    place = slip.place
    assert (slip.index, slip.image) == ((1,), "cells")
    assert labels[round(place.y), round(place.x)] == labels.max()
    assert place.y == pytest.approx(76 * factor, abs=3 * factor)
    assert place.x == pytest.approx(75 * factor, abs=3 * factor)


def test_right_strokes_are_no_slips(service, add_model, given):
    parent = add_model("bright", width=4)
    config = dataclasses.replace(SETTINGS, steps=1, learning_rate=1e-9)
    assert service.finetune([given()], parent, config).wait(SOON).slips == ()


# What it looks like while it learns


@pytest.mark.parametrize("zoom_to", [None, 24.0])
def test_the_view_is_shown_while_the_model_learns(
    service, weak, given, blobs, monkeypatch, zoom_to, held_back
):
    monkeypatch.setattr(running, "_LOOK_S", 0.0)
    stack = np.stack([blobs(seed, (200, 220))[0] for seed in range(2)])
    view = View(stack, "ZYX", (1,), (slice(30, 90), slice(100, 190)))
    shown, asked = [], []

    def watch():
        asked.append(threading.current_thread())
        return view if len(asked) > 1 else None

    config = dataclasses.replace(SETTINGS, diameter_px=zoom_to)
    job = service.finetune([given()], "weak", config, watch=watch)
    job.progressed.connect(lambda p: shown.append(p.preview))
    held_back.set()
    done = job.wait(SOON)
    shown = [each for each in shown if each is not None]
    assert shown
    assert threading.main_thread() not in asked
    for each in shown:
        assert isinstance(each, ViewLabels)
        assert each.view == view
        assert each.labels.shape == (60, 90)
        assert each.labels.dtype == np.int32
    # Looking changes nothing.
    plain = service.finetune([given()], weak, config).wait(SOON)
    assert torch.equal(weights(done.model), weights(plain.model))


@pytest.mark.slow
def test_the_parent_holds_as_far_as_it_was_right(service, weak, given, monkeypatch):
    anchors = []
    begin = running.start_training

    def start(model, planes, config, *args):
        anchors.append(config.anchor)
        return begin(model, planes, config, *args)

    monkeypatch.setattr(running, "start_training", start)
    # Twice as large for the network as they are.
    config = dataclasses.replace(
        SETTINGS, steps=60, learning_rate=0.02, diameter_px=weak.header.diameter_px / 2
    )
    good = service.finetune([given(seed) for seed in range(3)], "weak", config).wait(SOON)
    assert good.verdict.accepted
    done = service.finetune([given(5)], good.model, dataclasses.replace(config, steps=2)).wait(SOON)
    ignorant, expert = anchors
    assert ignorant < 0.05
    assert 0.18 < expert <= 0.5
    assert done.model.header.settings["anchor"] == 0.5, "what was asked for is kept"
    same = dataclasses.replace(SETTINGS, steps=2)
    service.finetune([given(5)], weak, same).wait(SOON)
    assert anchors[-1] == SETTINGS.anchor, "cells of the size that it was made for"
