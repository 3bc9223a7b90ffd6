import copy
import dataclasses
import math
import time

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig
from napari_unet.core.cells.instances import relative_distance, separate_touching
from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.engine import trainer as finetuning
from napari_unet.engine.predict import Predictor
from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.engine.trainer import StepReport, Trainer

CPU = torch.device("cpu")
CONFIG = FinetuneConfig(
    steps=5, seconds=None, learning_rate=3e-3, warmup_steps=5, tile_px=92, anchor=0.0, seed=1
)


def discs(seed: int = 0, shape=(110, 110), count: int = 9):
    """Bright cells on a dark noisy ground, and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for cell in range(1, count + 1):
        y, x, radius = *rng.uniform(0, shape), rng.uniform(6, 11)
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = cell
    image = 0.7 * (labels > 0) + 0.15 + 0.1 * rng.normal(size=shape)
    return image[None].astype(np.float32), labels


def make(seed: int = 0, **config) -> UNet:
    network = UNet(UNetConfig(**{"depth": 2, "width": 8, **config}))
    initialise(network, seed)
    return network.eval()


def train(network: UNet, planes, **changes) -> list[StepReport]:
    """Train until the budget is spent; the reports of all steps."""
    return run(Trainer(network, planes, dataclasses.replace(CONFIG, **changes), CPU))


def run(trainer: Trainer) -> list[StepReport]:
    reports = []
    while trainer.fraction < 1:
        reports.append(trainer.step())
    trainer.finish()
    return reports


def foreground_iou(network: UNet, image, labels) -> float:
    found = Predictor(network, CPU).logits(image, 200)[:2].argmax(0) > 0
    return (found & (labels > 0)).sum() / (found | (labels > 0)).sum()


def weights(network: UNet):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def plane() -> AnnotatedPlane:
    return AnnotatedPlane(*discs())


@pytest.fixture
def half_seen() -> AnnotatedPlane:
    image, labels = discs()
    trusted = np.zeros(labels.shape, bool)
    trusted[:, :50] = True
    return AnnotatedPlane(image, labels, trusted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_tiny_network_learns_blobs(plane, seed):
    network = make(seed)
    unknown = discs(seed=50)
    before = foreground_iou(network, *unknown)
    reports = train(network, [plane], steps=120, learning_rate=1e-2, balance=1.0, seed=seed)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert foreground_iou(network, *unknown) > 0.8 > before


def distance_error(network: UNet, image, labels) -> float:
    told = 1 / (1 + np.exp(-Predictor(network, CPU).logits(image, 200)[-1]))
    return float(np.abs(told - relative_distance(separate_touching(labels))).mean())


@pytest.mark.slow
def test_a_tiny_network_learns_the_distance_as_well():
    network, unknown = make(distance=True), discs(seed=50)
    before = distance_error(network, *unknown)
    train(network, [AnnotatedPlane(*discs())], steps=150, learning_rate=1e-2, balance=1.0)
    assert distance_error(network, *unknown) < 0.1 < 0.3 * before
    assert foreground_iou(network, *unknown) > 0.8


@pytest.mark.slow
def test_unseen_pixels_hold_the_distance_near_the_parents_where_that_sees_background(half_seen):
    def drift(anchor):
        network = make(distance=True)
        with torch.no_grad():
            network.head.weight[:2] = 0
            network.head.bias[:2] = torch.tensor([3.0, -3.0])  # all is background
        image = half_seen.image
        before = Predictor(network, CPU).logits(image, 200)[-1, :, 70:]
        train(network, [half_seen], steps=60, learning_rate=1e-2, anchor=anchor)
        return float(np.abs(Predictor(network, CPU).logits(image, 200)[-1, :, 70:] - before).mean())

    assert drift(10.0) < 0.5 * drift(0.0)


@pytest.mark.slow
def test_the_recipe_of_the_paper_learns_too(plane):
    network = make()
    reports = train(
        network, [plane], steps=80, optimiser="sgd", learning_rate=5e-4, decay=False, balance=1.0
    )
    losses = [report.loss for report in reports]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_weights_bit_for_bit(half_seen):
    def run(seed):
        network = make(dropout=0.5)
        torch.rand(int(time.time_ns()) % 7 + 1)  # what ran before does not matter
        reports = train(network, [half_seen], steps=4, anchor=0.5, average=0.9, seed=seed)
        return weights(network), [report.loss for report in reports]

    first, first_losses = run(1)
    same, same_losses = run(1)
    assert torch.equal(first, same)
    assert first_losses == same_losses
    other, _ = run(2)
    assert not torch.equal(first, other)


def test_reports_count_steps_and_share_of_the_budget(plane):
    reports = train(make(), [plane], steps=5)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([report.fraction for report in reports], [0.2, 0.4, 0.6, 0.8, 1.0])
    elapsed = [report.elapsed_s for report in reports]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0
    assert all(math.isfinite(report.loss) and report.loss > 0 for report in reports)


def test_the_learning_rate_rises_and_then_falls_along_a_cosine(plane):
    reports = train(make(), [plane], steps=20, warmup_steps=4, learning_rate=1e-3)
    expected = [
        # How many steps a time budget holds is known after nine, and until then it does not fall.
        1e-3 * min(1, (i + 1) / 4) * (0.5 * (1 + math.cos(math.pi * i / 20)) if i > 8 else 1)
        for i in range(20)
    ]
    np.testing.assert_allclose([report.learning_rate for report in reports], expected)
    flat = train(make(), [plane], steps=12, warmup_steps=0, learning_rate=1e-3, decay=False)
    assert [report.learning_rate for report in flat] == [1e-3] * 12


class Clock:
    """A clock that moves on by as much as each step takes."""

    def __init__(self, monkeypatch, seconds_of_step):
        self.now, self._take = 100.0, iter(seconds_of_step)
        monkeypatch.setattr(finetuning.time, "perf_counter", lambda: self.now)
        learn = Trainer._learn

        def timed(trainer):
            self.now += next(self._take)
            return learn(trainer)

        monkeypatch.setattr(Trainer, "_learn", timed)


def clocked(plane, monkeypatch, seconds_of_step, **changes):
    with monkeypatch.context() as patch:
        clock = Clock(patch, seconds_of_step)
        trainer = Trainer(make(), [plane], dataclasses.replace(CONFIG, **changes), CPU)
        reports = []
        while trainer.fraction < 1:
            reports.append(trainer.step())
        trainer.finish()
    return trainer, reports, clock.now - 100


def test_seconds_become_a_number_of_steps_after_nine(plane, monkeypatch):
    # The first step is slow, as the first is; the others tell that 20 fit into what is left.
    trainer, reports, spent = clocked(plane, monkeypatch, [3, *[0.5] * 99], steps=None, seconds=13)
    assert trainer.planned == len(reports) == 21
    assert spent == 13
    assert [report.fraction for report in reports[:8]] == [0] * 8
    assert [report.fraction for report in reports[8:]] == [step / 21 for step in range(9, 22)]


def test_the_number_of_steps_limits_a_time_budget(plane, monkeypatch):
    trainer, reports, _ = clocked(plane, monkeypatch, [0.5] * 99, steps=12, seconds=1000)
    assert trainer.planned == len(reports) == 12
    trainer, reports, _ = clocked(plane, monkeypatch, [0.5] * 99, steps=3, seconds=1000)
    assert trainer.planned == len(reports) == 3


def test_a_machine_that_became_slower_ends_a_tenth_late(plane, monkeypatch):
    slower = [*[0.5] * 9, *[5.0] * 99]
    trainer, reports, spent = clocked(plane, monkeypatch, slower, steps=None, seconds=20)
    assert trainer.planned == 40
    assert len(reports) < 40
    assert 22 <= spent < 22 + 5
    assert reports[-1].fraction == 1


def test_a_budget_that_is_spent_before_nine_steps_ends_too(plane, monkeypatch):
    trainer, reports, _ = clocked(plane, monkeypatch, [1.0] * 99, steps=None, seconds=3)
    assert len(reports) == 4
    assert trainer.planned is None


def test_a_run_of_seconds_is_repeated_by_its_steps_bit_for_bit(half_seen, monkeypatch):
    changes = {"anchor": 0.5, "average": 0.9}
    first, _, _ = clocked(half_seen, monkeypatch, [0.5] * 99, steps=None, seconds=6, **changes)
    second = make()
    train(second, [half_seen], steps=first.planned, seconds=None, **changes)
    assert torch.equal(weights(first.network), weights(second))
    other = make()
    train(other, [half_seen], steps=first.planned + 1, seconds=None, **changes)
    assert not torch.equal(weights(first.network), weights(other))


@pytest.mark.slow
def test_a_machine_that_was_busy_for_a_moment_makes_use_of_its_time(half_seen, monkeypatch):
    busy = [*[2.0] * 9, *[0.5] * 99]
    first, reports, spent = clocked(half_seen, monkeypatch, busy, steps=None, seconds=40)
    # Planned after 9 steps at 2 s each, and again after 18 and 36, at half a second.
    assert first.plans == {9: 20, 18: 53, 36: 53}
    assert len(reports) == 53
    assert spent == 40
    again = make()
    config = dataclasses.replace(CONFIG, steps=None, seconds=1e9)
    trainer = Trainer(again, [half_seen], config, CPU, plans=first.plans)
    while trainer.fraction < 1:
        trainer.step()
    trainer.finish()
    assert torch.equal(weights(first.network), weights(again))


def test_a_slow_machine_knows_its_speed_long_before_it_plans(plane, monkeypatch):
    clock = Clock(monkeypatch, [7.0, *[5.0] * 99])
    trainer = Trainer(make(), [plane], dataclasses.replace(CONFIG, steps=None, seconds=30), CPU)
    trainer.step()
    assert (trainer.speed, trainer.expected) == (None, None), "the first step is slower than others"
    trainer.step()
    assert (trainer.speed, trainer.planned) == (0.2, None)
    assert trainer.expected == 2 + round((30 - 12) / 5)
    assert (trainer.elapsed_s, clock.now) == (12, 112)
    assert (trainer.fraction, trainer.share) == (0, 12 / 30)


def longer(trainer, step_and_seconds):
    """Ask for more seconds while a step is on its way."""
    at, seconds = step_and_seconds
    trainer.asked_s = lambda: seconds if trainer.steps >= at else None


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 10, 40])
def test_more_time_is_taken_at_once_and_repeated_bit_for_bit(half_seen, monkeypatch, at):
    changes = {"steps": None, "seconds": 20, "anchor": 0.5}
    config = dataclasses.replace(CONFIG, **changes)
    with monkeypatch.context() as patch:
        clock = Clock(patch, [0.5] * 199)
        trainer = Trainer(make(width=2), [half_seen], config, CPU)
        longer(trainer, (at, 30))
        while trainer.fraction < 1:
            trainer.step()
        trainer.finish()
        assert clock.now == 130
    assert trainer.planned == trainer.steps == 60
    assert (at < 9) or trainer.plans[at] == 60
    config = dataclasses.replace(config, steps=60, seconds=None)
    again = Trainer(make(width=2), [half_seen], config, CPU, plans=trainer.plans)
    while again.fraction < 1:
        again.step()
    again.finish()
    assert torch.equal(weights(trainer.network), weights(again.network))


def test_less_time_than_there_is_changes_nothing(plane, monkeypatch):
    with monkeypatch.context() as patch:
        Clock(patch, [0.5] * 99)
        config = dataclasses.replace(CONFIG, steps=None, seconds=20)
        trainer = Trainer(make(), [plane], config, CPU)
        longer(trainer, (12, 10))
        while trainer.fraction < 1:
            trainer.step()
    assert trainer.plans == {9: 40, 18: 40, 36: 40}


def test_a_tile_beside_the_corrections_tells_no_loss():
    image, labels = discs(shape=(300, 300))
    seen = np.zeros(labels.shape, bool)
    seen[150, 150] = True
    plane = AnnotatedPlane(image, labels * seen, seen)
    saw, trainer = [], Trainer(make(width=2), [plane], dataclasses.replace(CONFIG, anchor=1.0), CPU)
    drawn = trainer._batches
    trainer._batches = (saw.append(bool(batch.seen.any())) or batch for batch in drawn)
    losses = [math.log(2), *(trainer.step().loss for _ in range(30))]
    assert 5 < sum(saw) < 28
    same = [now == before for now, before in zip(losses[1:], losses, strict=False)]
    assert same == [not each for each in saw]


def open_end(plane, monkeypatch, step_s, legs, **changes):
    given = {"steps": None, "seconds": "auto", "tile_px": 236}
    config = dataclasses.replace(CONFIG, **{**given, **changes})
    with monkeypatch.context() as patch:
        clock = Clock(patch, [step_s] * 9999)
        trainer = Trainer(make(width=2), [plane], config, CPU)
        rates, ends = [], []
        while trainer.fraction < 1:
            rates.append(trainer.step().learning_rate)
            if trainer.steps == trainer.planned:
                ends.append(trainer.steps)
                if len(ends) == legs or not trainer.go_on():
                    break
        trainer.finish()
    return trainer, rates, ends, clock.now - 100


@pytest.mark.slow
def test_an_open_end_comes_in_legs_at_whose_end_the_rate_is_low(half_seen, monkeypatch):
    trainer, rates, ends, _ = open_end(half_seen, monkeypatch, 0.5, legs=2)
    assert ends == [80, 160]
    assert trainer.is_open
    for end in ends:
        assert rates[end - 1] < 0.01 * CONFIG.learning_rate
    assert rates[80] == pytest.approx(CONFIG.learning_rate / 2)
    config = dataclasses.replace(CONFIG, steps=160, seconds=None, tile_px=236)
    again = Trainer(make(width=2), [half_seen], config, CPU, plans=trainer.plans)
    while again.fraction < 1:
        again.step()
    again.finish()
    assert torch.equal(weights(trainer.network), weights(again.network))


@pytest.mark.parametrize(
    ("step_s", "changes", "expected"),
    [
        (20.0, {}, [30]),
        (5.0, {}, [80, 120]),
        (4.0, {}, [80, 150]),
        (0.01, {"steps": 200}, [80, 160, 200]),
        (0.01, {"steps": 170}, [80, 160]),
        (0.01, {"steps": 30}, [30]),
    ],
)
def test_an_open_end_has_its_limits(plane, monkeypatch, step_s, changes, expected):
    monkeypatch.setattr(Trainer, "_learn", lambda trainer: 1.0)
    trainer, _, ends, spent = open_end(plane, monkeypatch, step_s, legs=99, **changes)
    assert ends == expected
    assert trainer.share == pytest.approx(1.0, abs=0.07)
    assert spent <= 600


@pytest.mark.parametrize(
    ("tile_px", "expected"),
    [(444, [80, 160, 320, 640, 1280]), (132, [240, 480, 960, 1920, 3840])],
)
def test_an_open_end_takes_1500_large_steps_or_4500_small_ones_at_most(
    plane, monkeypatch, tile_px, expected
):
    monkeypatch.setattr(Trainer, "_learn", lambda trainer: 1.0)
    _, _, ends, _ = open_end(plane, monkeypatch, 0.01, legs=99, tile_px=tile_px)
    assert ends == expected


def test_the_time_budget_ends_near_its_end(plane):
    start = time.perf_counter()
    reports = train(make(), [plane], steps=None, seconds=0.5)
    assert len(reports) > 1
    assert reports[-1].fraction == 1
    assert all(report.fraction < 1 for report in reports[:-1])
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_pause_changes_nothing(half_seen, average):
    config = dataclasses.replace(CONFIG, steps=12, anchor=0.5, average=average)
    straight = make(dropout=0.5)
    run(Trainer(straight, [half_seen], config, CPU))
    network = make(dropout=0.5)
    trainer = Trainer(network, [half_seen], config, CPU)
    while trainer.fraction < 1:
        trainer.step()
        with trainer.paused() as paused:
            assert not paused.training
            Predictor(paused, CPU).logits(half_seen.image, 200)
        assert network.training
    trainer.finish()
    assert torch.equal(weights(network), weights(straight))


def test_a_pause_shows_what_would_be_kept(plane):
    config = dataclasses.replace(CONFIG, steps=50, average=0.9)
    one, other = (Trainer(make(), [plane], config, CPU) for _ in range(2))
    for _ in range(4):
        one.step(), other.step()
    other.finish()
    with one.paused() as shown:
        assert torch.equal(weights(shown), weights(other.network))
    assert not torch.equal(weights(one.network), weights(other.network))


def test_a_pause_that_fails_leaves_the_training_as_it_was(plane):
    trainer = Trainer(make(), [plane], dataclasses.replace(CONFIG, average=0.5), CPU)
    trainer.step()
    before = weights(trainer.network).clone()
    with pytest.raises(KeyboardInterrupt), trainer.paused():
        raise KeyboardInterrupt
    assert torch.equal(weights(trainer.network), before)
    assert trainer.network.training


def test_a_pause_does_not_count_as_time(plane, monkeypatch):
    clock = Clock(monkeypatch, [0.5] * 99)
    trainer = Trainer(make(), [plane], dataclasses.replace(CONFIG, steps=None, seconds=10), CPU)
    while trainer.fraction < 1:
        report = trainer.step()
        with trainer.paused():
            clock.now += 7
    assert trainer.planned == report.step == 20
    assert report.elapsed_s == pytest.approx(10)


def test_a_trainer_goes_on_with_other_planes(plane):
    dark = AnnotatedPlane(np.zeros_like(plane.image), np.zeros_like(plane.labels))
    trainer = Trainer(make(), [plane], CONFIG, CPU)
    trainer.step()
    trainer.learn_from([dark])
    drawn = next(trainer._batches)
    assert not drawn.classes.any()
    # Not the draws of the first planes once more.
    begin = next(Trainer(make(), [dark], CONFIG, CPU)._batches)
    assert not torch.equal(drawn.image, begin.image)
    with pytest.raises(ValueError, match="nothing to learn from"):
        trainer.learn_from([])


@pytest.mark.slow
def test_with_processes_that_draw_it_learns_the_same_each_time(plane):
    network = make()
    reports = train(network, [plane], steps=3, batch=2, workers=2)
    assert len(reports) == 3
    assert all(math.isfinite(report.loss) for report in reports)
    same = make()
    train(same, [plane], steps=3, batch=2, workers=2)
    assert torch.equal(weights(network), weights(same))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_learns(plane, workers):
    config = dataclasses.replace(CONFIG, steps=60, batch=2, workers=workers)
    reports = run(Trainer(make(), [plane], config, torch.device("cuda")))
    assert np.mean([r.loss for r in reports[-10:]]) < np.mean([r.loss for r in reports[:10]])


def test_training_draws_nothing_from_torchs_own_generator(half_seen):
    network = make(dropout=0.5)
    before = torch.get_rng_state()
    train(network, [half_seen], steps=2, anchor=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    # And whoever draws from it in between changes nothing.
    network = make(dropout=0.5)
    trainer = Trainer(network, [half_seen], dataclasses.replace(CONFIG, steps=3), CPU)
    while trainer.fraction < 1:
        trainer.step()
        torch.rand(7)
    trainer.finish()
    same = make(dropout=0.5)
    train(same, [half_seen], steps=3)
    assert torch.equal(weights(network), weights(same))


def test_dropout_acts_while_training(plane):
    first, other = make(dropout=0.0), make(dropout=0.5)
    train(first, [plane], steps=2)
    train(other, [plane], steps=2)
    assert not torch.equal(weights(first), weights(other))


def test_nothing_is_learnt_before_the_first_step(plane):
    network = make()
    before = weights(network)
    Trainer(network, [plane], CONFIG, CPU).finish()
    assert torch.equal(weights(network), before)
    assert not network.training


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_finishing_early_keeps_what_was_learnt_so_far(plane, average):
    network = make()
    before = weights(network)
    config = dataclasses.replace(CONFIG, steps=50, average=average)
    trainer = Trainer(network, [plane], config, CPU)
    for _ in range(3):
        trainer.step()
    assert network.training
    trainer.finish()
    assert not network.training
    assert weights(network).isfinite().all()
    assert not torch.equal(weights(network), before)
    assert Predictor(network, CPU).logits(plane.image, 200).shape == (2, 110, 110)


def test_the_network_ends_in_evaluation_mode_as_float32(plane):
    network = make()
    train(network, [plane], steps=1)
    assert not any(module.training for module in network.modules())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in network.parameters())


def test_the_average_is_a_running_mean_that_forgets_the_start(plane):
    network = make()
    mean = weights(network)
    config = dataclasses.replace(CONFIG, steps=12, average=0.5)
    trainer = Trainer(network, [plane], config, CPU)
    while trainer.fraction < 1:
        report = trainer.step()
        decay = min(0.5, report.step / (report.step + 10))
        mean = decay * mean + (1 - decay) * weights(network)
    trainer.finish()
    torch.testing.assert_close(weights(network), mean, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_anchor_holds_what_was_not_seen(plane, half_seen):
    parent = make()
    train(parent, [plane], steps=40)
    # The correction says that the cells of the left half are none.
    labels = np.where(half_seen.seen, 0, half_seen.labels).astype(np.int32)
    correction = AnnotatedPlane(plane.image, labels, half_seen.seen)
    unseen = discs(seed=51)[0]
    was = Predictor(parent, CPU).logits(unseen, 200)
    ground = was[1] < was[0] - 2
    moved = {}
    for anchor in (0.0, 5.0):
        network = copy.deepcopy(parent)
        train(network, [correction], steps=15, anchor=anchor)
        now = Predictor(network, CPU).logits(unseen, 200)
        moved[anchor] = np.abs((now[1] - now[0]) - (was[1] - was[0]))[ground].mean()
    assert moved[5.0] < 0.6 * moved[0.0]


def test_what_the_parent_finds_where_nobody_looked_is_not_held(plane, half_seen):
    parent = make()
    with torch.no_grad():
        parent.head.weight[:] = 0
        parent.head.bias[:] = torch.tensor([-3.0, 3.0])  # all is a cell
    free, anchored = copy.deepcopy(parent), copy.deepcopy(parent)
    # With large tiles the anchor does not change what is drawn.
    train(free, [half_seen], anchor=0.0, tile_px=236)
    train(anchored, [half_seen], anchor=5.0, tile_px=236)
    # It becomes background in a few steps, so it is held at the end, a little.
    assert torch.allclose(weights(anchored), weights(free))


@pytest.mark.slow
def test_what_a_parent_that_is_believed_finds_is_held(plane, half_seen):
    parent = make()
    train(parent, [plane], steps=40)
    # The correction says that the cells of the left half are none.
    labels = np.where(half_seen.seen, 0, half_seen.labels).astype(np.int32)
    correction = AnnotatedPlane(plane.image, labels, half_seen.seen)
    other, cells = discs(seed=51)
    cells = cells > 0
    was = Predictor(parent, CPU).logits(other, 200)
    lost = {}
    for belief in (0.0, 1.0):
        network = copy.deepcopy(parent)
        train(network, [dataclasses.replace(correction, belief=belief)], steps=15, anchor=2.0)
        now = Predictor(network, CPU).logits(other, 200)
        lost[belief] = ((was[1] - was[0]) - (now[1] - now[0]))[cells].mean()
    assert lost[1.0] < 0.6 * lost[0.0]


def test_a_share_of_the_steps_replays_what_was_learnt_before(plane):
    other = AnnotatedPlane(plane.image[:, ::-1].copy(), np.zeros_like(plane.labels))

    def with_cells(replay):
        config = dataclasses.replace(CONFIG, replay=replay)
        batches = Trainer(make(), [plane], config, CPU, replay=[other])._batches
        return sum(bool(next(batches).classes.any()) for _ in range(60))

    assert with_cells(0.8) < 0.5 * with_cells(0.0)


def test_learning_anew_begins_with_the_first_weights(plane):
    network = make()
    first = weights(network).clone()
    trainer = Trainer(network, [plane], CONFIG, CPU)
    trainer.step()
    assert not torch.equal(weights(network), first)
    trainer.learn_from([plane], anew=True)
    assert torch.equal(weights(network), first)


def test_the_anchor_does_not_hold_what_was_seen(plane):
    free, anchored = make(), make()
    train(free, [plane], anchor=0.0)
    train(anchored, [plane], anchor=5.0)
    assert torch.equal(weights(anchored), weights(free))


def test_unseen_pixels_teach_nothing(half_seen):
    other = np.where(half_seen.seen, half_seen.labels, 0).astype(np.int32)
    first, second = make(), make()
    # But for the border term, which looks beyond the mask.
    train(first, [half_seen], w0=0.0)
    train(second, [dataclasses.replace(half_seen, labels=other)], w0=0.0)
    assert torch.equal(weights(first), weights(second))
    third = make()
    everywhere = np.ones_like(half_seen.seen)
    train(third, [dataclasses.replace(half_seen, seen=everywhere)], w0=0.0)
    assert not torch.equal(weights(first), weights(third))


def test_the_parent_itself_is_not_trained(half_seen):
    config = dataclasses.replace(CONFIG, anchor=1.0)
    trainer = Trainer(make(), [half_seen], config, CPU)
    trainer.step()
    parent = trainer._parent
    assert torch.equal(weights(parent), weights(make()))
    assert not torch.equal(weights(parent), weights(trainer.network))
    assert not parent.training
    assert not any(p.requires_grad for p in parent.parameters())


def test_nothing_seen_is_nothing_to_learn_from(plane):
    nothing = dataclasses.replace(plane, seen=np.zeros(plane.labels.shape, bool))
    with pytest.raises(ValueError, match="nothing to learn from"):
        train(make(), [nothing])


def test_divergence_is_told(plane):
    with pytest.raises(FloatingPointError, match=r"training diverged .*: give a lower learning"):
        train(make(), [plane], learning_rate=1e30, warmup_steps=0, steps=20)


def test_a_gradient_that_is_no_number_never_reaches_the_weights(plane):
    network = make()
    before = weights(network).clone()
    network.head.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(FloatingPointError, match=r"its gradient (inf|nan)"):
        train(network, [plane], steps=1)
    assert torch.equal(weights(network), before)


def test_an_image_that_is_no_number_is_told(plane):
    image = plane.image.copy()
    image[:] = np.nan
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train(make(), [dataclasses.replace(plane, image=image)])


def test_several_tiles_in_a_step(plane):
    (report,) = train(make(), [plane], steps=1, batch=3)
    assert math.isfinite(report.loss)


def test_bfloat16_trains_float32_weights(plane):
    network = make()
    before = weights(network)
    reports = run(Trainer(network, [plane], CONFIG, CPU, torch.bfloat16))
    losses = [report.loss for report in reports]
    assert np.isfinite(losses).all()
    assert weights(network).dtype == torch.float32
    assert not torch.equal(weights(network), before)


def test_a_check_stops_within_a_step_and_leaves_the_weights(plane):
    class Stop(Exception):
        pass

    network = make()
    trainer = Trainer(network, [plane], dataclasses.replace(CONFIG, anchor=1.0), CPU)
    calls = []
    trainer.step(lambda: calls.append(1))
    # Before each layer of the network and of its parent, and for each weight.
    assert len(calls) > 40
    for last in (1, len(calls) // 2, len(calls)):
        left = iter(range(last - 1))

        def check(left=left) -> None:
            if next(left, None) is None:
                raise Stop

        before = weights(network)
        with pytest.raises(Stop):
            trainer.step(check)
        assert torch.equal(weights(network), before)
    trainer.step()
    assert not torch.equal(weights(network), before)
