"""From annotated images to a better network: what is learnt from, and the loop that learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig
from napari_unet.core.axes import get_plane
from napari_unet.core.intensity import Normalisation
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.jobs import Job
from napari_unet.learning.budget import Gain, progress_words, too_short
from napari_unet.models.decoding import SEED_THRESHOLD, cell_areas, typical_area
from napari_unet.models.device import Compute, choose, is_missing, is_out_of_memory
from napari_unet.models.header import ModelHeader
from napari_unet.models.loaded import Box, LoadedModel, zoom_to

if TYPE_CHECKING:
    from napari_unet.engine.augmentation_preview import AugmentationPreview
    from napari_unet.engine.samples import AnnotatedPlane
    from napari_unet.engine.trainer import StepReport, Trainer

# Cells whose size is within this factor of what the network knows are not resized: of the one size
# that it was made for, or of the middle of a mixture.
_SAME_SIZE, _SAME_MIXTURE = 1.6, 2.5
# Fewer tell no size; from so many on a mixture is left for the one size that they have.
_LEAST_CELLS, _MANY_CELLS = 3, 40


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """What a model trained from scratch looks like; see `UNetConfig`.

    The default width is what reaches good labels soonest on a CPU (`benchmarks/presets.py`).

    Parameters
    ----------
    dims
        2 for planes, 3 for stacks.
    anisotropy
        Distance of a stack's planes, in pixels.
    z_depth
        Poolings along Z; by default as many as leave voxels about as high as they are wide.
    depth, width
        By default 4 and 16; for stacks 2 and 16, or 3 and 8 where cells are large
        (`benchmarks/volumes.py`).
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
    ) -> dict[str, Any]:
        """Keyword arguments of `UNetConfig`.

        Parameters
        ----------
        n_planes
            Of the lowest stack: no more context is taken along Z than there are planes.
        diameter_px
            Of its cells, if it is known.
        """
        from napari_unet.core.network.unet import halo_px

        stacks = self.dims == 3
        usual = (4, 16)
        if stacks:
            # The halo is most of a window of voxels: no more of it than is needed to see a cell.
            usual = (2, 16) if (diameter_px or 0) <= 2 * halo_px(2) else (3, 8)
        depth, width = self.depth or usual[0], self.width or usual[1]
        found: dict[str, Any] = {"depth": depth, "width": width}
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
    """A network with random weights, and the header that it begins with."""
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
    """Diameter, in pixels, of a disc as large as a typical cell of those seen as a whole.

    Half of the cells' pixels lie in larger ones: specks do not count. None without such a cell.
    """
    planes = [(c.labels, c.trusted) for item in annotated for c in item.corrections]
    return _diameter(cell_areas(planes))


def size_for(
    header: ModelHeader, annotated: Sequence[Annotated], asked_px: float | None = None
) -> tuple[float | None, float]:
    """For cells of which size a fine-tune is, and by which factor it sees their images.

    Both are the parent's, unless a size is asked for, or the corrected cells differ too much from
    what the parent knows. Who corrects begins with what is odd: so a few cells, or ones that differ
    from all others that were found, do not tell the size.

    Parameters
    ----------
    header
        Of the parent.
    annotated
        What was corrected, with all labels of its planes.
    asked_px
        Diameter of the cells that the user gave, in pixels.

    Returns
    -------
    The diameter in pixels, None for a mixture of sizes, and the zoom.
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
    # Of the corrected cells and of all, found ones included, the size that is nearer to the known.
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
    """The model itself, or one that knows the new classes among these as well."""
    from napari_unet.core.network.unet import with_classes

    known = model.header.classes
    # A cell of no named kind is of the first.
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
    """Annotated planes, cut down to what training windows around trusted pixels can reach.

    Parameters
    ----------
    annotated
        Images and their corrections. Labels outside a trusted region become 0 here: nobody has
        looked at them, and cells there would weigh on the borders of those inside.
    model
        Says how the images are prepared.
    config
        Says how large the windows are.
    check
        Called before each plane; may raise to stop.
    zoom
        The network sees the images larger by this factor.
    """
    from napari_unet.core.resample import resize_labels, resize_plane, zoomed_shape
    from napari_unet.engine.samples import AnnotatedPlane

    for item in annotated:
        for correction in item.corrections:
            check()
            trusted = correction.trusted
            if trusted is not None and not trusted.any():
                continue
            box = reach(correction, round(config.tile_px / zoom))
            plane = get_plane(item.image, item.axes, correction.index)
            image = model.prepare(plane, box, item.statistics)
            shape = zoomed_shape((image.shape[1], image.shape[2]), zoom)
            labels = resize_labels(correction.labels[box].astype(np.int32), shape).copy()
            kinds = kinds_of(labels, correction, model.header.classes)
            if trusted is not None:
                trusted = resize_labels(trusted[box], shape)
                labels[~trusted] = 0
            yield AnnotatedPlane(resize_plane(image, shape), labels, trusted, kinds)


def learn(
    job: Job[Any],
    trainer: Trainer,
    on_step: Callable[[StepReport], bool] = lambda report: True,
    held_out: Callable[[], float | None] = lambda: None,
    *,
    decides: bool = False,
) -> int:
    """Train until the budget is spent, somebody asks for the end, or `on_step` returns False.

    Where the end is open, that is when a leg brought no gain. `Job.extend` makes the budget larger.

    Parameters
    ----------
    job
        Told how far it is.
    trainer
        Trains.
    on_step
        Called after each step.
    held_out
        The last score on held-out cells, in [0, 1]; None if there is none.
    decides
        Whether an open end is decided by that score, or else by the loss.

    Returns
    -------
    The number of steps; the network is left as it is to be kept.

    Raises
    ------
    ValueError
        If memory runs out, or a GPU lacks an operation.
    """

    def tell(loss: float | None = None) -> None:
        score, short = held_out(), too_short(trainer)
        words = progress_words(trainer, score)
        job.report(trainer.share, words, loss, None, score, short)

    gain = Gain(held_out() if decides else None)
    trainer.asked_s = lambda: job.extended_s
    tell()
    try:
        # One step at least: there is something to keep then.
        while trainer.fraction < 1 and not (job.is_finishing and trainer.steps):
            report = trainer.step(job.check)
            gain.add(report.loss)
            tell(report.loss)
            if not on_step(report):
                break
            if trainer.is_open and trainer.steps == trainer.planned:
                better = gain.in_leg(held_out() if decides else None)
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
            f"there is not enough memory to train with tiles of {trainer.config.tile_px} px; "
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
    """A trainer of a model's network, which it changes in place."""
    from napari_unet.engine.trainer import Trainer

    device, dtype = compute.torch_device, compute.torch_dtype
    return Trainer(model.network, planes, config, device, dtype, plans, replay)


def preview(
    job: Job[AugmentationPreview],
    model: LoadedModel,
    annotated: Annotated,
    config: FinetuneConfig,
    draws: int,
) -> AugmentationPreview:
    """Samples that a model would learn from with these settings, to be looked at."""
    from napari_unet.engine.augmentation_preview import preview as show
    from napari_unet.engine.samples import Sampler

    job.report(0.0, "drawing samples")
    _, zoom = size_for(model.header, [annotated], config.diameter_px)
    planes = list(annotated_planes([annotated], model, config, job.check, zoom))
    network = model.network.config
    device = choose(config.device, config.precision).torch_device
    return show(Sampler(planes, network, config, device), network.depth, draws)


def reach(correction: Correction, margin_px: int) -> Box:
    """The part of a plane that lies within `margin_px` of its trusted pixels' box."""
    if correction.trusted is None:
        return slice(None), slice(None)
    lines = (np.flatnonzero(correction.trusted.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin_px, 0), int(i[-1]) + 1 + margin_px) for i in lines)
    return y, x


def kinds_of(
    labels: NDArray[np.int32], correction: Correction, classes: Sequence[str]
) -> NDArray[np.uint8] | None:
    """Class of each labelled pixel of a correction, from 1; None where all are the same."""
    if not correction.classes:
        return None
    table = np.ones(int(labels.max(initial=0)) + 1, np.uint8)
    for cell, kind in correction.classes.items():
        if cell < len(table):
            table[cell] = classes.index(kind) if kind in classes else 1
    return table[labels]
