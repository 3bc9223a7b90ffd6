"""Scores that compare labels with the truth: AP, SEG, IoU; Rand, warping and pixel error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error

# The IoU thresholds at which AP is computed: 0.5, 0.55, ..., 0.95.
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass
class Scores:
    """Scores over a set of images, which are added one by one; every cell counts the same.

    AP = TP / (TP + FP + FN) at an IoU threshold, with one-to-one matches (as in Caicedo et al.
    2019, doi:10.1038/s41592-019-0612-7). SEG is that of the Cell Tracking Challenge: the mean IoU
    of the true cells, where a cell counts 0 if no prediction covers more than half of it.

    Examples
    --------
    >>> scores = Scores()
    >>> scores.add(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 0]]))
    >>> summary = scores.summary()
    >>> summary["n_true"], summary["n_pred"], summary["ap50"], summary["recall_50"]
    (2, 1, 0.5, 0.5)
    """

    n_images: int = 0
    n_true: int = 0
    n_pred: int = 0
    hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    seg_sum: float = 0.0
    foreground: tuple[int, int] = (0, 0)
    wrong_px: int = 0
    n_px: int = 0

    def add(self, truth: NDArray[np.integer], pred: NDArray[np.integer]) -> None:
        """Add one image: the true and the predicted labels, of the same shape, 0 = background.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        iou, covered = overlaps(truth, pred)
        self.n_images += 1
        self.n_true += iou.shape[0]
        self.n_pred += iou.shape[1]
        self.hits += [count_matches(iou, t) for t in THRESHOLDS]
        self.seg_sum += float(np.where(covered > 0.5, iou, 0).max(axis=1, initial=0).sum())
        t, p = truth > 0, pred > 0
        intersection, union = self.foreground
        self.foreground = (intersection + int((t & p).sum()), union + int((t | p).sum()))
        self.wrong_px += int((t != p).sum())
        self.n_px += truth.size

    def summary(self) -> dict[str, float]:
        """Return the scores by name; a score is 1 if nothing was to be found and nothing was."""
        # TP + FP + FN, FP = n_pred - TP, FN = n_true - TP.
        ap = [_ratio(h, self.n_true + self.n_pred - h) for h in self.hits.tolist()]
        hits = int(self.hits[0])
        return {
            "n_images": self.n_images,
            "n_true": self.n_true,
            "n_pred": self.n_pred,
            "ap50": ap[0],
            "ap75": ap[THRESHOLDS.index(0.75)],
            "map": float(np.mean(ap)),
            "f1_50": _ratio(2 * hits, self.n_true + self.n_pred),
            "precision_50": _ratio(hits, self.n_pred),
            "recall_50": _ratio(hits, self.n_true),
            "seg": _ratio(self.seg_sum, self.n_true),
            "iou": _ratio(*self.foreground),
            "pixel_error": self.wrong_px / max(self.n_px, 1),
        }


def overlaps(
    truth: NDArray[np.integer], pred: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IoU of all pairs of cells, and how much of each true cell is covered.

    Parameters
    ----------
    truth, pred
        Labels of one image, of the same shape, 0 = background.

    Returns
    -------
    iou
        (true cells, predicted cells), pixels in both cells over pixels in one or the other.
    covered
        Of that shape, the share of the true cell's pixels that lie in the predicted cell.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> iou, covered = overlaps(np.array([[1, 1, 1, 0]]), np.array([[0, 4, 4, 4]]))
    >>> iou, covered.round(2)
    (array([[0.5]]), array([[0.67]]))
    """
    if truth.shape != pred.shape:
        raise ValueError(
            f"the truth is {truth.shape} and the labels are {pred.shape}; give labels of one image"
        )
    t_ids, t = np.unique(truth, return_inverse=True)
    p_ids, p = np.unique(pred, return_inverse=True)
    joint = np.bincount(
        t.ravel() * len(p_ids) + p.ravel(), minlength=len(t_ids) * len(p_ids)
    ).reshape(len(t_ids), len(p_ids))
    t_area, p_area = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    rows, columns = t_ids != 0, p_ids != 0
    common = joint[rows][:, columns]
    iou = common / (t_area[rows] + p_area[:, columns] - common)
    return iou, common / t_area[rows]


def count_matches(iou: NDArray[np.float64], threshold: float) -> int:
    """Return the largest number of one-to-one matches with an IoU of at least `threshold`.

    Parameters
    ----------
    iou
        (true cells, predicted cells), as from `overlaps`.
    threshold
        In (0, 1].

    Examples
    --------
    >>> count_matches(np.array([[0.5, 0.5], [0.0, 0.6]]), 0.5)
    2
    """
    possible = iou >= threshold
    # Above 0.5 no cell can have two partners. At 0.5 or below it can, so the matches are searched.
    if (possible.sum(0) <= 1).all() and (possible.sum(1) <= 1).all():
        return int(possible.sum())
    rows, columns = linear_sum_assignment(possible, maximize=True)
    return int(possible[rows, columns].sum())


def rand_error(truth: NDArray[np.integer], pred: NDArray[np.integer]) -> float:
    """Return the foreground-restricted Rand error of the ISBI 2012 challenge; 0 is best.

    Predicted background inside the true cells counts as one segment. Without true cells the error
    is 0 if no cell was found, else 1.
    """
    if not truth.any():
        return float(pred.any())
    return float(adapted_rand_error(truth, pred)[0])


def warping_error(truth: NDArray[np.bool_], pred: NDArray[np.bool_]) -> float:
    """Return the share of pixels where truth and prediction differ in topology.

    The truth is bent towards the prediction: pixels that differ are flipped one by one, as long as
    a flip does not split, merge, open or fill anything (cells are 4-connected, membranes
    8-connected). The pixels that still differ count (Jain et al., CVPR 2010, "Boundary learning by
    optimization with topological constraints").

    Parameters
    ----------
    truth, pred
        (Y, X), whether a pixel belongs to a cell.
    """
    bent, simple = truth.copy(), _simple_points()
    lattices = [(slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
    before = -1
    while before != (left := int((bent != pred).sum())):
        before = left
        # No two pixels of one lattice are neighbours, so they can be flipped at the same time.
        for lattice in lattices:
            around = np.zeros(truth.shape, np.uint8)
            padded = np.pad(bent, 1)
            for bit, (y, x) in enumerate(_AROUND):
                part = padded[1 + y : 1 + y + truth.shape[0], 1 + x : 1 + x + truth.shape[1]]
                around |= part.astype(np.uint8) << np.uint8(bit)
            flip = (bent != pred)[lattice] & simple[around[lattice]]
            bent[lattice] ^= flip
    return left / truth.size


# The 8 neighbours (y, x) of a pixel, in a circle around it.
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _simple_points() -> NDArray[np.bool_]:
    """Return, for each set of neighbours (as bits), whether a flip keeps the topology."""
    table = np.zeros(256, bool)
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    for code in range(256):
        cells = np.zeros((3, 3), bool)
        for bit, (y, x) in enumerate(_AROUND):
            cells[1 + y, 1 + x] = code >> bit & 1
        membranes = ~cells
        membranes[1, 1] = False
        touching = np.unique(ndimage.label(cells)[0][cells & cross])
        table[code] = len(touching) == 1 and ndimage.label(membranes, np.ones((3, 3)))[1] == 1
    return table


def confusion(
    truth: NDArray[np.integer],
    pred: NDArray[np.integer],
    weight: NDArray[np.floating],
    units: NDArray[np.integer],
    n_units: int,
    n_classes: int,
) -> NDArray[np.float64]:
    """Return a confusion matrix for each unit: the weight of its pixels, (units, K, K).

    Parameters
    ----------
    truth, pred
        (Y, X), the true and the predicted classes: rows and columns of the matrix.
    weight
        (Y, X), how much a pixel counts.
    units
        (Y, X), the number of the unit, from 1; pixels with 0 do not count.
    n_units, n_classes
        Number of units, and of classes K.
    """
    here = units > 0
    unit = units[here].astype(np.int64) - 1
    index = (unit * n_classes + truth[here]) * n_classes + pred[here]
    counts = np.bincount(index, weight[here], minlength=n_units * n_classes**2)
    return counts.astype(np.float64).reshape(n_units, n_classes, n_classes)


def kappa(counts: NDArray[np.float64]) -> float:
    """Return Cohen's kappa of a confusion matrix (K, K): 1 is perfect, 0 is as good as guessing.

    Cohen 1960, doi:10.1177/001316446002000104. If the truth is all one class, kappa has no meaning,
    and the share of the weight that is right is returned instead.

    Examples
    --------
    >>> kappa(np.array([[8.0, 0.0], [0.0, 2.0]]))
    1.0
    """
    total = counts.sum()
    if not total:
        return 1.0
    rows, columns = counts.sum(1) / total, counts.sum(0) / total
    right, chance = float(np.trace(counts) / total), float((rows * columns).sum())
    return right if (rows > 0).sum() < 2 else (right - chance) / (1 - chance)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
