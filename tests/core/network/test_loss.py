import math

import pytest
import torch

from napari_unet.core.network.loss import anchor_loss, distance_loss, weighted_cross_entropy


def test_cross_entropy_by_hand():
    # Two pixels: p(true) = 3/4 weighs 2, p(true) = 1/2 weighs 5.
    logits = torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
    classes = torch.tensor([[[0, 1]]])
    weight = torch.tensor([[[2.0, 5.0]]])
    loss = weighted_cross_entropy(logits, classes, weight)
    assert loss.item() == pytest.approx((2 * math.log(4 / 3) + 5 * math.log(2)) / 2)


def test_cross_entropy_of_three_classes_divides_by_the_seen_pixels_only():
    logits = torch.zeros(1, 3, 2, 2)
    classes = torch.tensor([[[0, 1], [2, 2]]])
    weight = torch.tensor([[[1.0, 4.0], [0.0, 0.0]]])
    loss = weighted_cross_entropy(logits, classes, weight)
    assert loss.item() == pytest.approx(5 * math.log(3) / 2)


def test_unseen_pixels_have_no_gradient():
    logits = torch.randn(2, 2, 5, 6, requires_grad=True)
    classes = torch.randint(0, 2, (2, 5, 6))
    weight = torch.rand(2, 5, 6) + 0.1
    weight[:, :, 3:] = 0
    weighted_cross_entropy(logits, classes, weight).backward()
    assert (logits.grad[..., 3:] == 0).all()
    assert (logits.grad[..., :3] != 0).all()


def test_what_unseen_pixels_hold_does_not_matter():
    logits, classes = torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    weight = torch.ones(1, 4, 4)
    weight[:, 0] = 0
    other, others = logits.clone(), classes.clone()
    other[:, :, 0], others[:, 0] = 100.0, 1
    assert weighted_cross_entropy(logits, classes, weight) == weighted_cross_entropy(
        other, others, weight
    )


def test_nothing_seen_is_no_loss_and_no_gradient():
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(1, 3, 3).long(), torch.zeros(1, 3, 3))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_large_and_low_precision_logits_are_safe():
    logits = torch.tensor([[[[500.0]], [[-500.0]]]], dtype=torch.bfloat16)
    loss = weighted_cross_entropy(logits, torch.tensor([[[1]]]), torch.ones(1, 1, 1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1000, rel=0.01)


def test_anchor_by_hand():
    # KL((1/2, 1/2) || (3/4, 1/4)) on the one unseen pixel; the other differs too, and is seen.
    parent = torch.zeros(1, 2, 1, 2)
    logits = torch.tensor([[[[math.log(3.0), 9.0]], [[0.0, 0.0]]]])
    unseen = torch.tensor([[[True, False]]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert anchor_loss(logits, parent, unseen).item() == pytest.approx(expected, rel=1e-5)


def test_anchor_is_zero_at_the_parent_and_pulls_back_to_it():
    parent = torch.randn(1, 3, 4, 4)
    unseen = torch.ones(1, 4, 4, dtype=torch.bool)
    there = parent.clone().requires_grad_()
    loss = anchor_loss(there, parent, unseen)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert there.grad.abs().max() < 1e-6
    away = (parent + torch.randn(parent.shape)).requires_grad_()
    first = anchor_loss(away, parent, unseen)
    first.backward()
    assert 0 < anchor_loss(away - away.grad, parent, unseen) < first


def test_anchor_holds_unseen_pixels_only():
    logits, parent = torch.randn(1, 2, 4, 6, requires_grad=True), torch.randn(1, 2, 4, 6)
    unseen = torch.zeros(1, 4, 6, dtype=torch.bool)
    unseen[..., :2] = True
    anchor_loss(logits, parent, unseen).backward()
    assert (logits.grad[..., :2] != 0).all()
    assert (logits.grad[..., 2:] == 0).all()


def test_anchor_is_zero_where_all_was_seen():
    logits = torch.randn(1, 2, 3, 3)
    assert anchor_loss(logits, -logits, torch.zeros(1, 3, 3, dtype=torch.bool)).item() == 0


def test_distance_loss_by_hand():
    # sigmoid(log 3) = 3/4.
    logit = torch.tensor([[[math.log(3.0), 7.0]]], requires_grad=True)
    loss = distance_loss(logit, torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[True, False]]]))
    loss.backward()
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert logit.grad[0, 0, 0].item() == pytest.approx(0.25)
    assert logit.grad[0, 0, 1] == 0


def test_nothing_seen_is_no_distance_loss():
    nothing = torch.zeros(1, 2, 2)
    assert distance_loss(torch.randn(1, 2, 2), nothing, nothing).item() == 0
