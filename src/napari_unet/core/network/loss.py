"""The loss: pixel-wise softmax and weighted cross-entropy (Ronneberger et al. 2015, equation 1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of w(x) (-log p_class(x)) over the seen pixels, divided by their number.

    Parameters
    ----------
    logits
        (N, K, Y, X), float.
    classes
        (N, Y, X), int64, true class of each pixel.
    weight
        (N, Y, X), float; 0 where a pixel is unseen, so that it has no effect.

    Returns
    -------
    Scalar; 0 if every pixel is unseen.

    Examples
    --------
    >>> import torch
    >>> logits, classes = torch.zeros(1, 2, 1, 2), torch.zeros(1, 1, 2, dtype=torch.int64)
    >>> weight = torch.tensor([[[1.0, 0.0]]])
    >>> round(float(weighted_cross_entropy(logits, classes, weight)), 4)  # log 2
    0.6931
    """
    loss = F.cross_entropy(logits.float(), classes, reduction="none")
    return (loss * weight).sum() / (weight > 0).sum().clamp(min=1)


def distance_loss(logit: Tensor, distance: Tensor, where: Tensor) -> Tensor:
    """Return the mean binary cross-entropy between the predicted and the true relative distance.

    Parameters
    ----------
    logit
        (N, Y, X), float, the logit of the predicted distance.
    distance
        (N, Y, X), the true one, in [0, 1] (see `core.cells.instances.relative_distance`).
    where
        (N, Y, X), 1 where a pixel counts, else 0.
    """
    loss = F.binary_cross_entropy_with_logits(logit.float(), distance.float(), reduction="none")
    return (loss * where).sum() / where.sum().clamp(min=1)


def anchor_loss(logits: Tensor, parent_logits: Tensor, unseen: Tensor) -> Tensor:
    """Return the mean divergence KL(parent || model) over the unseen pixels.

    It keeps the model near its parent where nobody said what is right (knowledge distillation,
    Hinton et al. 2015, arXiv:1503.02531; for keeping what was learnt, Li and Hoiem 2016,
    arXiv:1606.09282).

    Parameters
    ----------
    logits, parent_logits
        (N, K, Y, X), float.
    unseen
        (N, Y, X), 1 where a pixel is unseen, else 0.
    """
    divergence = F.kl_div(
        logits.float().log_softmax(1),
        parent_logits.float().log_softmax(1),
        reduction="none",
        log_target=True,
    ).sum(1)
    return (divergence * unseen).sum() / unseen.sum().clamp(min=1)


def sure_background(parent_logits: Tensor, below: float = 0.2) -> Tensor:
    """Return where the parent is sure of background, (N, Y, X) bool.

    There its foreground probability is less than `below`. The cells that a parent finds may be
    wrong, so a new model is not kept near them; its sure background is almost always right.

    Parameters
    ----------
    parent_logits
        (N, K, Y, X), float, class 0 is background.
    below
        Foreground probability, in (0, 1).
    """
    return parent_logits.float().softmax(1)[:, 0] > 1 - below
