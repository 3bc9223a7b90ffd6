import copy
import dataclasses
import math
import time

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig
from napari_unet.core.unet import UNet, UNetConfig, initialise
from napari_unet.engine.finetune import finetune
from napari_unet.engine.predict import Predictor
from napari_unet.engine.samples import AnnotatedPlane

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


def train(network: UNet, planes, **changes):
    return list(finetune(network, planes, dataclasses.replace(CONFIG, **changes), CPU))


def foreground_iou(network: UNet, image, labels) -> float:
    found = Predictor(network, CPU).logits(image, 200).argmax(0) > 0
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


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tiny_network_learns_blobs(plane, seed):
    network = make(seed)
    unknown = discs(seed=50)
    before = foreground_iou(network, *unknown)
    reports = train(network, [plane], steps=120, learning_rate=1e-2, balance=1.0, seed=seed)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert foreground_iou(network, *unknown) > 0.8 > before


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
    reports = train(make(), [plane], steps=10, warmup_steps=4, learning_rate=1e-3)
    expected = [
        1e-3 * min(1, (step + 1) / 4) * 0.5 * (1 + math.cos(math.pi * step / 10))
        for step in range(10)
    ]
    np.testing.assert_allclose([report.learning_rate for report in reports], expected)
    flat = train(make(), [plane], steps=3, warmup_steps=0, learning_rate=1e-3, decay=False)
    assert [report.learning_rate for report in flat] == [1e-3] * 3


def test_the_time_budget_ends_near_its_end(plane):
    start = time.perf_counter()
    reports = train(make(), [plane], steps=None, seconds=0.5)
    spent = time.perf_counter() - start
    assert len(reports) > 1
    assert reports[-1].fraction == 1
    assert all(report.fraction < 1 for report in reports[:-1])
    assert reports[-2].elapsed_s < 0.5 <= reports[-1].elapsed_s
    assert spent < 5


def test_the_first_of_both_budgets_ends_it(plane):
    assert len(train(make(), [plane], steps=2, seconds=1000.0)) == 2
    assert len(train(make(), [plane], steps=10**6, seconds=0.05)) < 1000


def test_nothing_runs_before_the_first_step(plane):
    network = make()
    before = weights(network)
    steps = finetune(network, [plane], CONFIG, CPU)
    steps.close()
    assert torch.equal(weights(network), before)
    assert not network.training


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_closing_early_keeps_what_was_learnt_so_far(plane, average):
    network = make()
    before = weights(network)
    steps = finetune(network, [plane], dataclasses.replace(CONFIG, steps=50, average=average), CPU)
    for _ in range(3):
        next(steps)
    assert network.training
    steps.close()
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
    steps = finetune(network, [plane], dataclasses.replace(CONFIG, steps=12, average=0.5), CPU)
    for report in steps:
        decay = min(0.5, report.step / (report.step + 10))
        mean = decay * mean + (1 - decay) * weights(network)
    torch.testing.assert_close(weights(network), mean, rtol=0, atol=1e-6)


def test_the_anchor_holds_what_was_not_seen(plane, half_seen):
    parent = make()
    train(parent, [plane], steps=40)
    # The correction says that the cells of the left half are none.
    labels = np.where(half_seen.trusted, 0, half_seen.labels).astype(np.int32)
    correction = AnnotatedPlane(plane.image, labels, half_seen.trusted)
    unseen = discs(seed=51)[0]
    was = Predictor(parent, CPU).logits(unseen, 200)
    moved = {}
    for anchor in (0.0, 5.0):
        network = copy.deepcopy(parent)
        train(network, [correction], steps=15, anchor=anchor)
        now = Predictor(network, CPU).logits(unseen, 200)
        moved[anchor] = np.abs((now[1] - now[0]) - (was[1] - was[0])).mean()
    assert moved[5.0] < 0.6 * moved[0.0]


def test_the_anchor_does_not_hold_what_was_seen(plane):
    free, anchored = make(), make()
    train(free, [plane], anchor=0.0)
    train(anchored, [plane], anchor=5.0)
    assert torch.equal(weights(anchored), weights(free))


def test_unseen_pixels_teach_nothing(half_seen):
    other = np.where(half_seen.trusted, half_seen.labels, 0).astype(np.int32)
    first, second = make(), make()
    # But for the border term, which looks beyond the mask.
    train(first, [half_seen], w0=0.0)
    train(second, [dataclasses.replace(half_seen, labels=other)], w0=0.0)
    assert torch.equal(weights(first), weights(second))
    third = make()
    everywhere = np.ones_like(half_seen.trusted)
    train(third, [dataclasses.replace(half_seen, trusted=everywhere)], w0=0.0)
    assert not torch.equal(weights(first), weights(third))


def test_the_parent_itself_is_not_trained(half_seen):
    network = make()
    steps = finetune(network, [half_seen], dataclasses.replace(CONFIG, anchor=1.0), CPU)
    next(steps)
    parent = steps.gi_frame.f_locals["parent"]
    assert torch.equal(weights(parent), weights(make()))
    assert not parent.training
    assert not any(p.requires_grad for p in parent.parameters())
    steps.close()


def test_nothing_trusted_is_nothing_to_learn_from(plane):
    nothing = dataclasses.replace(plane, trusted=np.zeros(plane.labels.shape, bool))
    with pytest.raises(ValueError, match="nothing to learn from"):
        train(make(), [nothing])


def test_divergence_is_told(plane):
    network = make()
    with pytest.raises(FloatingPointError, match=r"training diverged .*: give a lower learning"):
        train(network, [plane], learning_rate=1e30, warmup_steps=0, steps=20)
    assert not network.training


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
    steps = finetune(network, [plane], CONFIG, CPU, torch.bfloat16)
    losses = [report.loss for report in steps]
    assert np.isfinite(losses).all()
    assert weights(network).dtype == torch.float32
    assert not torch.equal(weights(network), before)
