"""Training: new models, the annotated planes that they learn from, and the loop of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig
from napari_unet.core.axes import get_plane
from napari_unet.core.boxes import Box
from napari_unet.core.intensity import Normalisation
from napari_unet.core.json_types import JsonObject
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.jobs import Job
from napari_unet.learning.budget import Gain, progress_words, too_short
from napari_unet.learning.crops import with_tiles
from napari_unet.models.decoding import SEED_THRESHOLD, cell_areas, typical_area
from napari_unet.models.device import Compute, choose, is_missing, is_out_of_memory
from napari_unet.models.header import ModelHeader
from napari_unet.models.loaded import LoadedModel, zoom_to

if TYPE_CHECKING:
    from napari_unet.engine.augmentation_preview import AugmentationPreview
    from napari_unet.engine.samples import AnnotatedPlane
    from napari_unet.engine.trainer import StepReport, Trainer

# Images keep their size if the diameter of the cells is within this factor of the diameter that
# the network knows. The first is for models of one size and for many cells; the second is for few
# cells and models of mixed sizes, which know a wide range.
_SAME_SIZE, _SAME_MIXTURE = 1.6, 2.5
# Smallest number of corrected cells from which a diameter is measured, and the number of cells from
# which on _SAME_SIZE is used for models of mixed sizes too.
_LEAST_CELLS, _MANY_CELLS = 3, 40


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """The architecture of a model that is trained from scratch; see also `UNetConfig`.

    The default width reaches good labels soonest on a CPU (`benchmarks/presets.py`).

    Parameters
    ----------
    dims
        2 for planes, 3 for stacks.
    anisotropy
        Distance between the planes of a stack, in pixels.
    z_depth
        Number of poolings along Z; by default so many that pooled voxels are about as high as wide.
    depth, width
        Number of poolings, and channels of the first level. By default 4 and 16; for stacks 2 and
        16, or 3 and 8 if cells are large (`benchmarks/volumes.py`).
    """

    dims: int = 2
    anisotropy: float = 1.0
    z_depth: int | None = None
    depth: int | None = None
    width: int | None = None
    in_channels: int = 1
    n_classes: int = 2
    dropout: float = 0.1
    distance: bool = True

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise ValueError(f"dims is {self.dims}; give 2 for planes or 3 for stacks")
        if not self.anisotropy > 0:
            raise ValueError(
                f"anisotropy is {self.anisotropy}; give the distance of the planes in pixels"
            )

    def architecture(
        self, n_planes: int | None = None, diameter_px: float | None = None
    ) -> JsonObject:
        """Return the keyword arguments of `UNetConfig`.

        Parameters
        ----------
        n_planes
            Planes of the stack that has the fewest; the halo along Z is not larger than this.
        diameter_px
            Diameter of the cells, in pixels, if it is known.
        """
        from napari_unet.core.network.unet import halo_px

        stacks = self.dims == 3
        usual = (4, 16)
        if stacks:
            # The halo is most of a training window of voxels, so it is only as large as is needed
            # to see a cell.
            usual = (2, 16) if (diameter_px or 0) <= 2 * halo_px(2) else (3, 8)
        depth, width = self.depth or usual[0], self.width or usual[1]
        found: JsonObject = {"depth": depth, "width": width}
        for name in ("in_channels", "n_classes", "dropout", "distance"):
            found[name] = getattr(self, name)
        if not stacks:
            return found
        z_depth = self.z_depth
        if z_depth is None:
            z_depth = min(depth, max(0, depth - round(math.log2(self.anisotropy))))
            while z_depth and n_planes and halo_px(z_depth) > n_planes:
                z_depth -= 1
        return {**found, "z_depth": z_depth}


def new_model(
    new: NewModel,
    name: str,
    seed: int,
    n_planes: int | None = None,
    diameter_px: float | None = None,
) -> LoadedModel:
    """Return a network with random weights, and its first header.

    Parameters
    ----------
    new
        The architecture.
    name
        Name of the model.
    seed
        Seed of the weights.
    n_planes, diameter_px
        As for `NewModel.architecture`.
    """
    from napari_unet.core.network.unet import UNet, UNetConfig, initialise

    architecture = new.architecture(n_planes, diameter_px)
    network = UNet(UNetConfig(**architecture))
    initialise(network, seed)
    header = ModelHeader(
        name=name,
        architecture=architecture,
        normalisation=asdict(Normalisation()),
        anisotropy=new.anisotropy if new.dims == 3 else None,
        postprocess={
            "threshold": 0.5,
            "gap_px": 1,
            "min_size_px": round(64 / new.anisotropy) if new.dims == 3 else 16,
            "seed_threshold": SEED_THRESHOLD if new.distance else None,
        },
    )
    return LoadedModel(network, header)


def cell_diameter(annotated: Sequence[Annotated]) -> float | None:
    """Return the diameter, in pixels, of a disc with the area of a typical corrected cell.

    Half of all cell pixels lie in larger cells, so small specks hardly count. Cells that were seen
    only in part are left out. None if there is no cell.
    """
    planes = [(c.labels, c.trusted) for item in annotated for c in item.corrections]
    return _diameter(cell_areas(planes))


def size_for(
    header: ModelHeader, annotated: Sequence[Annotated], asked_px: float | None = None
) -> tuple[float | None, float]:
    """Choose the diameter of the cells that a fine-tune is for, and the zoom of their images.

    Both stay those of the parent, unless the user gives a diameter, or the corrected cells have a
    very different size. Users often correct unusual cells first. So the parent's size is also kept
    if there are fewer than three cells, or if the corrected cells are larger than the known size
    and all labelled cells are not, or the other way round.

    Parameters
    ----------
    header
        Header of the parent.
    annotated
        The corrections, with all labels of their planes.
    asked_px
        Diameter of the cells that the user gave, in pixels.

    Returns
    -------
    The diameter in pixels, None for a mixture of sizes; and the zoom.
    """
    unchanged = header.diameter_px, header.zoom
    if asked_px is not None:
        return asked_px, zoom_to(header, asked_px)
    corrections = [c for item in annotated for c in item.corrections]
    areas = cell_areas((c.labels, c.trusted) for c in corrections)
    size = _diameter(areas)
    if size is None or len(areas) < _LEAST_CELLS:
        return unchanged
    mixed = header.diameter_px is None and len(areas) < _MANY_CELLS
    factor = _SAME_MIXTURE if mixed else _SAME_SIZE
    # The size of the corrected cells is compared with that of all labelled cells. The one that is
    # nearer to the known size is used.
    of_all = _diameter(cell_areas((c.labels, None) for c in corrections)) or size
    known = size * zoom_to(header, size) / header.zoom
    if (size < known) != (of_all < known):
        return unchanged
    size = max(size, of_all) if size < known else min(size, of_all)
    zoom = zoom_to(header, size)
    return unchanged if 1 / factor < zoom / header.zoom < factor else (size, zoom)


def _diameter(areas: NDArray[np.int64]) -> float | None:
    area = typical_area(areas)
    return None if area is None else float(np.sqrt(4 / np.pi * area))


def teach_classes(model: LoadedModel, names: Iterable[str]) -> LoadedModel:
    """Return the model, or a new one with more outputs if some of these classes are new to it."""
    from napari_unet.core.network.unet import with_classes

    known = model.header.classes
    # "cell" means the first class, so it is never a new one.
    new = sorted(set(names) - {"cell", *known})
    if not new:
        return model
    header = replace(model.header, classes=(*known, *new))
    return LoadedModel(with_classes(model.network, len(header.classes)), header)


def annotated_planes(
    annotated: Sequence[Annotated],
    model: LoadedModel,
    config: FinetuneConfig,
    check: Callable[[], None],
    zoom: float = 1.0,
) -> Iterator[AnnotatedPlane]:
    """Yield annotated planes, cut to the surroundings of the seen pixels.

    Parameters
    ----------
    annotated
        Images and their corrections. Labels of unseen pixels become 0 here: they may be wrong, and
        cells there would change the border weights of seen cells.
    model
        The model, which prepares the images.
    config
        Settings, with the distance up to which the surroundings are taken.
    check
        Called before each plane; may raise to stop.
    zoom
        Factor by which the images are enlarged for the network.
    """
    from napari_unet.core.resample import resize_labels, resize_plane, zoomed_shape
    from napari_unet.engine.samples import AnnotatedPlane

    for item in annotated:
        for correction in item.corrections:
            check()
            seen = correction.trusted
            if seen is not None and not seen.any():
                continue
            box = reach(correction, round(config.reach_px / zoom))
            plane = get_plane(item.image, item.axes, correction.index)
            image = model.prepare(plane, box, item.statistics)
            shape = zoomed_shape((image.shape[1], image.shape[2]), zoom)
            labels = resize_labels(correction.labels[box].astype(np.int32), shape).copy()
            classes = classes_of(labels, correction, model.header.classes)
            if seen is not None:
                seen = resize_labels(seen[box], shape)
                labels[~seen] = 0
            yield AnnotatedPlane(resize_plane(image, shape), labels, seen, classes)


def learn(
    job: Job[object],
    trainer: Trainer,
    on_step: Callable[[StepReport], bool] = lambda report: True,
    held_out: Callable[[], float | None] = lambda: None,
    gain: Gain | None = None,
    before_step: Callable[[], None] = lambda: None,
) -> int:
    """Train until the budget is spent, the user finishes the job, or `on_step` returns False.

    A training with an open end also stops after a leg without gain. `Job.extend` makes the budget
    larger.

    Parameters
    ----------
    job
        Receives the progress.
    trainer
        The trainer.
    on_step
        Called after each step; returns whether to go on.
    held_out
        Returns the last score on held-out cells, in [0, 1]; None if there is none.
    gain
        Decides after each leg of a training with an open end. If it has a score, the one on
        held-out cells decides; otherwise the loss does.
    before_step
        Called before each step.

    Returns
    -------
    The number of steps. The network has the weights to keep, in evaluation mode.

    Raises
    ------
    ValueError
        If memory runs out, or a GPU lacks an operation.
    """

    def tell(loss: float | None = None) -> None:
        score, short = held_out(), too_short(trainer)
        words = progress_words(trainer, score)
        job.report(trainer.share, words, loss, None, score, short)

    gain = gain or Gain()
    trainer.asked_s = lambda: job.extended_s
    tell()
    try:
        # At least one step is taken, so that a job that is finished early has something to keep.
        while trainer.fraction < 1 and not (job.is_finishing and trainer.steps):
            before_step()
            report = trainer.step(job.check)
            gain.add(report.loss)
            tell(report.loss)
            if not on_step(report):
                break
            if trainer.is_open and trainer.steps == trainer.planned:
                better = gain.in_leg(held_out())
                if not (better and trainer.go_on()):
                    break
    except (RuntimeError, MemoryError) as error:
        device = next(trainer.network.parameters()).device.type
        if is_missing(error, device):
            raise ValueError(
                f"the device {device} lacks an operation that training needs; choose the device cpu"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"there is not enough memory to train with tiles of {trainer.config.side_px} px; "
            "give a smaller tile_px, or another device"
        ) from error
    trainer.finish()
    return trainer.steps


def start_training(
    model: LoadedModel,
    planes: Sequence[AnnotatedPlane],
    config: FinetuneConfig,
    compute: Compute,
    plans: Mapping[int, int] | None = None,
    replay: Sequence[AnnotatedPlane] = (),
) -> Trainer:
    """Return a trainer of a model's network, which it will change in place.

    For `plans` and `replay` see `Trainer`.
    """
    from napari_unet.engine.trainer import Trainer

    device, dtype = compute.torch_device, compute.torch_dtype
    return Trainer(model.network, planes, config, device, dtype, plans, replay)


def preview(
    job: Job[object],
    model: LoadedModel,
    annotated: Annotated,
    config: FinetuneConfig,
    draws: int,
) -> AugmentationPreview:
    """Draw samples as a training with these settings would draw them, to show to the user."""
    from napari_unet.engine.augmentation_preview import preview as show
    from napari_unet.engine.samples import Sampler

    job.report(0.0, "drawing samples")
    _, zoom = size_for(model.header, [annotated], config.diameter_px)
    planes = list(annotated_planes([annotated], model, config, job.check, zoom))
    network, compute = model.network.config, choose(config.device, config.precision)
    config = with_tiles(config, model, planes, compute.device)
    sampler = Sampler(planes, network, config, compute.torch_device)
    return show(sampler, network.depth, draws)


def reach(correction: Correction, margin_px: int) -> Box:
    """Return the box around the seen pixels of a correction, with a margin in pixels."""
    if correction.trusted is None:
        return slice(None), slice(None)
    lines = (np.flatnonzero(correction.trusted.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin_px, 0), int(i[-1]) + 1 + margin_px) for i in lines)
    return y, x


def classes_of(
    labels: NDArray[np.int32], correction: Correction, classes: Sequence[str]
) -> NDArray[np.uint8] | None:
    """Return the class of each pixel of a correction, from 1; None if it names no class.

    Parameters
    ----------
    labels
        (Y, X), labels of the correction, perhaps resized.
    correction
        The correction, which names the class of each id.
    classes
        The classes of the model, background first.
    """
    if not correction.classes:
        return None
    table = np.ones(int(labels.max(initial=0)) + 1, np.uint8)
    for cell, name in correction.classes.items():
        if cell < len(table):
            table[cell] = classes.index(name) if name in classes else 1
    return table[labels]
