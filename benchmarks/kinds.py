"""The kinds of image that the loop is tried on: which images are corrected, and which judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import data

from benchmarks.common import data_folder
from napari_unet import demo
from napari_unet.io.images import read_image

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Kind:
    """A kind of image: which files are corrected, and which judge.

    Attributes
    ----------
    folder
        In NAPARI_UNET_DATA, with `images` and `masks`; empty for the sample of the package.
    work, judge
        Names of files without their endings.
    work_at, judge_at
        Where the crops lie along Y and X: 0 is the first row or column, 1 the last.
    model
        What the user begins with.
    """

    folder: str
    work: tuple[str, ...]
    judge: tuple[str, ...]
    work_at: tuple[float, float] = (0.5, 0.5)
    judge_at: tuple[float, float] = (0.5, 0.5)
    model: str = "nuclei"

    @property
    def is_partial(self) -> bool:
        """Whether only some cells are marked, as strokes of a brush: the sample of the package."""
        return not self.folder

    @property
    def least_iou(self) -> float:
        """IoU from which a cell counts as found; strokes are rougher than outlines."""
        return 0.3 if self.is_partial else 0.5


# Nothing that judges was learnt by the models that ship, nor lies beside what is corrected. Of
# dsb2018 it is fold 4 of recipes/nuclei.py, of usiigaci what recipes/phase.py does not learn from.
KINDS = {
    # Tumours of several organs, at two magnifications.
    "he_20x": Kind("tissue_he_5", ("image03",), ("image01", "image07")),
    "he_40x": Kind("tissue_he_5", ("image09",), ("image13",)),
    # Group 0bf33d3d, and two others.
    "violet": Kind(
        "dsb2018",
        ("0bf33d3db4282d91", "4ae4f936a9ade472", "815524d88283ba10"),
        ("65c8527c16a01619", "f952cc65376009cf", "673baf65ae5c571d"),
    ),
    # All of it is one group.
    "pink": Kind(
        "dsb2018",
        ("4193474b2f1c72f7", "87ea72894f6534b2"),
        ("57bd029b19c1b382", "8f27ebc74164eddf"),
    ),
    # The sample of the package, left and right half.
    "sample": Kind("", ("left",), ("right",)),
    "hela": Kind(
        "ctc_dic_c2dh_hela_01", ("t000", "t010", "t020"), ("t032", "t040", "t048", "t067")
    ),
    "u373": Kind(
        "ctc_phc_c2dh_u373_01",
        ("t000", "t012", "t024"),
        ("t044", "t059", "t092", "t112"),
        model="phase",
    ),
    # One field of each magnification.
    "usiigaci": Kind("usiigaci_phc_t98g", ("set22", "set43"), ("set24", "set47"), model="phase"),
    # Other rats.
    "axons": Kind(
        "axon_sem_rat",
        ("sub-rat1_sample-data1_SEM", "sub-rat3_sample-data10_SEM"),
        (
            "sub-rat2_sample-data5_SEM",
            "sub-rat4_sample-data12_SEM",
            "sub-rat6_sample-data15_SEM",
            "sub-rat7_sample-Maxo03img60_SEM",
        ),
    ),
    # Later frames, and another corner of them.
    "film": Kind(
        "ctc_fluo_n2dl_hela_02sub", ("t000", "t002"), ("t009", "t011"), (0.0, 0.0), (1.0, 1.0)
    ),
    # Nuclei in fluorescence and in bright field, other groups.
    "fluo": Kind(
        "dsb2018",
        ("4dbbb275960ab9e4", "7f2b154541166210"),
        ("547ef286ee5f4e5d", "c44ed955eb2e5c8d", "ecb36c90cdd20245"),
    ),
    "bright": Kind("dsb2018", ("76a372bfd3fad3ea",), ("091944f1d2611c91", "1a11552569160f0b")),
}


@dataclass(frozen=True)
class Sample:
    """An image (Y, X) or (Y, X, C) and its true labels (Y, X)."""

    name: str
    image: NDArray[Any]
    truth: Labels

    @property
    def axes(self) -> str:
        return "YXC" if self.image.ndim == 3 else "YX"


def read(kind: Kind, crop_px: int) -> tuple[list[Sample], list[Sample]]:
    """Work images and judge images of a kind."""
    if kind.is_partial:
        left, right = halves()
        return [left], [right]
    parts = ((kind.work, kind.work_at), (kind.judge, kind.judge_at))
    work, judge = ([read_one(kind, name, at, crop_px) for name in names] for names, at in parts)
    return work, judge


def read_one(kind: Kind, name: str, at: tuple[float, float], crop_px: int) -> Sample:
    """A crop of a file."""
    folder = data_folder() / kind.folder
    image, truth = (
        read_image(next((folder / part).glob(f"{name}.*"))).data for part in ("images", "masks")
    )
    box = tuple(
        slice(start, start + crop_px)
        for start in (round(f * max(0, n - crop_px)) for f, n in zip(at, truth.shape, strict=True))
    )
    return Sample(name, image[box].copy(), truth[box].astype(np.int32))


def halves() -> Iterator[Sample]:
    """Left and right half of the tissue sample with its hand-marked nuclei."""
    image, truth = tissue()
    middle = image.shape[1] // 2
    for name, part in (("left", np.s_[:, :middle]), ("right", np.s_[:, middle:])):
        yield Sample(name, image[part].copy(), truth[part].copy())


def tissue() -> tuple[NDArray[np.uint8], Labels]:
    """The tissue sample and its hand-marked nuclei: nucleus n has the label n + 1."""
    image = data.immunohistochemistry()
    truth = np.zeros(image.shape[:2], np.int32)
    for number in range(len(demo.NUCLEI)):
        truth[demo.stroke_mask(number, truth.shape)] = number + 1
    return image, truth
