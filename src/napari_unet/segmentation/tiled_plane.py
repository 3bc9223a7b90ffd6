"""One plane of an image as its source, and its segmentation in tiles and blocks.

A plane of any size is segmented so, and is never as a whole in memory.

First the network writes the scores of each tile. Then each block is labelled from these scores.
Every pixel gets the same label as if the plane were segmented at once (`models.loaded`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.axes import get_plane, plane_shape
from napari_unet.core.boxes import Box, grown, inside
from napari_unet.core.intensity import Statistics, sample_step
from napari_unet.core.missing import REACH_PX, count_missing
from napari_unet.models.device import Compute, default_tile_px, run_within_memory
from napari_unet.models.loaded import LoadedModel, smooth_distance

if TYPE_CHECKING:
    from napari_unet.core.cells.blockwise import Decoding
    from napari_unet.core.tiling import Tile

# Planes with more pixels than this (16 megapixels) are segmented in blocks, to save memory.
LARGE_PX = 1 << 24
# Side of a block that is labelled at a time, in pixels.
BLOCK_PX = 1024
# Radius of the Gaussian that smooths the distance map, in pixels (`models.loaded.smooth_distance`).
_REACH_PX = 4
# A tile takes about this many times as long as a block; used for the progress only.
_TILE_COST = 10


@dataclass(frozen=True)
class Block:
    """The cells of one block; see `core.cells.blockwise.BlockLabels`.

    Attributes
    ----------
    labels
        (y, x) int32, ids 1, 2, ... in this block.
    keys, seams
        A key for each cell, the same in all blocks, and the cells that may continue in others.
    votes
        (n, K) int64, the pixels of each cell in this block by their class.
    """

    labels: NDArray[np.int32]
    keys: NDArray[np.int64]
    seams: NDArray[np.int64]
    votes: NDArray[np.int64]


@dataclass(frozen=True)
class PlaneSource:
    """One plane of an image, and how it is segmented.

    Attributes
    ----------
    model
        The model that segments it.
    image, axes, index
        Array-like, a letter of TZCYX for each axis, and the position of the plane along the axes
        other than C, Y, X.
    config
        Settings, with a diameter in pixels or None.
    compute
        The device and number format.
    """

    model: LoadedModel
    image: LazyArray
    axes: str
    index: tuple[int, ...]
    config: PredictConfig
    compute: Compute

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X), in pixels."""
        return plane_shape(self.axes, self.image.shape)

    @cached_property
    def zoom(self) -> float:
        """Factor by which the plane is enlarged for the network."""
        diameter = self.config.diameter_px
        assert not isinstance(diameter, str)
        return self.model.zoom(diameter)

    @property
    def seen_shape(self) -> tuple[int, int]:
        """(Y, X) of the plane as the network sees it, in pixels."""
        from napari_unet.core.resample import zoomed_shape

        return zoomed_shape(self.shape, self.zoom)

    @property
    def sample_step(self) -> int:
        """Distance between the rows, and the columns, of the sample, in pixels."""
        return sample_step(self.shape)

    @cached_property
    def sample(self) -> NDArray[np.generic]:
        """A regular sample of the raw plane, (C, y, x)."""
        each = slice(None, None, self.sample_step)
        return get_plane(self.image, self.axes, self.index, (each, each))

    @cached_property
    def statistics(self) -> Statistics:
        """Intensities of the whole plane that become 0 and 1, measured on the sample."""
        return self.model.measure(self.sample, sample=True)

    @property
    def missing_px(self) -> int:
        """Number of pixels that are not numbers; estimated for planes above 4 megapixels."""
        return self.sample_step**2 * count_missing(self.sample)

    @cached_property
    def tiles(self) -> list[Tile]:
        """The tiles that the network sees one at a time."""
        from napari_unet.core.tiling import plan_tiles

        depth = self.model.network.config.depth
        largest = self.config.tile_px or default_tile_px(self.compute, depth)
        return plan_tiles(self.seen_shape, largest, depth)

    @cached_property
    def blocks(self) -> list[Box]:
        """The blocks that are labelled one at a time."""
        from napari_unet.core.cells.blockwise import plan_blocks

        return plan_blocks(self.shape, BLOCK_PX)

    def score_types(self) -> dict[str, type[np.generic]]:
        """Return the name and number format of each array of scores, all of `seen_shape`."""
        types: dict[str, type[np.generic]] = {"foreground": np.float16}
        if self.model.network.config.n_classes > 2:
            types["kinds"] = np.uint8
        wanted = self._decoding.seed_threshold, self._decoding.peak_threshold
        if self.model.network.config.distance and wanted != (None, None):
            types["distance"] = np.float16
        return types

    def score(self, tile: Tile) -> dict[str, NDArray[np.generic]]:
        """Return the scores in the write area of a tile, by the names of `score_types`."""
        from scipy.special import expit

        from napari_unet.core.tiling import smallest_input_px
        from napari_unet.engine.predict import foreground_scores, in_16_bits

        smallest = smallest_input_px(self.model.network.config.depth)
        logits = run_within_memory(
            self.compute,
            smallest,
            smallest,
            lambda where, _: self.model.predictor(where).tile_logits(
                lambda box: self._read((box[0], box[1])), self.seen_shape, tile
            ),
        )
        classes = logits[: self.model.network.config.n_classes]
        found: dict[str, NDArray[np.generic]] = {
            "foreground": in_16_bits(foreground_scores(classes))
        }
        types = self.score_types()
        if "kinds" in types:
            found["kinds"] = classes[1:].argmax(0).astype(np.uint8) + np.uint8(1)
        if "distance" in types:
            found["distance"] = in_16_bits(expit(logits[-1]))
        return found

    def label(self, block: Box, scores: Mapping[str, LazyArray]) -> Block:
        """Label a block from the scores of the plane, which all tiles must have written."""
        from napari_unet.core.cells.blockwise import label_block

        margin = max(16, round(64 / self.zoom))
        found = label_block(
            lambda box: self._scores(scores, box), self.shape, block, self._decoding, margin
        )
        classes = self._classes(scores["kinds"], block) if "kinds" in scores else None
        votes = self.model.votes(found.labels, classes)
        return Block(found.labels, found.keys, found.seams, votes)

    @cached_property
    def _decoding(self) -> Decoding:
        return self.model.decoding(self.config, self.zoom)

    def _read(self, box: Box) -> NDArray[np.float32]:
        """Return a box of the prepared plane at the size that the network sees."""
        from napari_unet.core.resample import resize_box

        def read(part: Box) -> NDArray[np.float32]:
            # The wider box holds all pixels from which missing ones are filled in.
            wide = grown(part, REACH_PX, self.shape)
            pixels = get_plane(self.image, self.axes, self.index, wide)
            return self.model.prepare(pixels, inside(part, wide), self.statistics)

        return resize_box(read, self.shape, self.seen_shape, box)

    def _scores(
        self, scores: Mapping[str, LazyArray], box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        from napari_unet.core.resample import resize_box

        def resized(read: Callable[[Box], NDArray[np.float32]]) -> NDArray[np.float32]:
            sizes = self.seen_shape, self.shape
            out: NDArray[np.float32] = resize_box(lambda part: read(part)[None], *sizes, box)[0]
            return out

        foreground = resized(lambda part: np.asarray(scores["foreground"][part], np.float32))
        if "distance" not in scores:
            return foreground, None
        return foreground, resized(lambda part: self._smooth(scores["distance"], part))

    def _smooth(self, distance: LazyArray, part: Box) -> NDArray[np.float32]:

        around = grown(part, _REACH_PX, self.seen_shape)
        return smooth_distance(np.asarray(distance[around], np.float32))[inside(part, around)]

    def _classes(self, classes: LazyArray, block: Box) -> NDArray[np.uint8]:
        from napari_unet.core.resample import nearest

        rows, columns = (
            nearest(n, m)[side]
            for n, m, side in zip(self.seen_shape, self.shape, block, strict=True)
        )
        part = np.asarray(classes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        of_block: NDArray[np.uint8] = part[rows[:, None] - rows[0], columns - columns[0]]
        return of_block


@dataclass(frozen=True)
class Cells:
    """The cells 1, 2, ... of a plane, from all its blocks.

    Attributes
    ----------
    numbers
        For each block, the final id of each label in it; 0 for background.
    votes
        (n, K) int64, the pixels of each cell by their class.
    """

    numbers: list[NDArray[np.int32]]
    votes: NDArray[np.int64]


def join(blocks: Sequence[Block]) -> Cells:
    """Number the cells of all blocks of a plane; the labels of the blocks are not used."""
    from napari_unet.core.cells.blockwise import number_cells

    numbers, count = number_cells([(block.keys, block.seams) for block in blocks])
    votes = np.zeros((count, blocks[0].votes.shape[1]), np.int64)
    for block, ids in zip(blocks, numbers, strict=True):
        np.add.at(votes, ids[1:] - 1, block.votes)
    return Cells(numbers, votes)


def segment_large(
    plane: PlaneSource, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> tuple[Cells, dict[str, Pixels]]:
    """Segment a plane into an array (Y, X); gives its cells, and the scores.

    Parameters
    ----------
    plane
        The plane.
    target
        Written to, with ids 1, 2, ...
    progress
        Called with (fraction, message) before each tile and block; may raise to stop.
    """
    scores = {
        name: np.empty(plane.seen_shape, dtype) for name, dtype in plane.score_types().items()
    }
    steps = len(plane.tiles) * _TILE_COST + len(plane.blocks)
    for done, tile in enumerate(plane.tiles):
        progress(done * _TILE_COST / steps, "segmenting")
        for name, part in plane.score(tile).items():
            scores[name][tile.write] = part
    blocks = []
    for done, box in enumerate(plane.blocks, len(plane.tiles) * _TILE_COST):
        progress(done / steps, "labelling cells")
        block = plane.label(box, scores)
        target[box] = block.labels
        blocks.append(replace(block, labels=np.zeros((0, 0), np.int32)))
    cells = join(blocks)
    for box, ids in zip(plane.blocks, cells.numbers, strict=True):
        target[box] = ids[target[box]]
    return cells, scores
