"""Training samples of stacks: random windows, weighted, and deformed within their planes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.core.cells.instances import relative_distance, separate_touching, split_pieces
from napari_unet.core.network.augment import jitter_grey
from napari_unet.core.network.elastic import warp
from napari_unet.core.network.unet import halo_px
from napari_unet.core.network.volume_elastic import stack_grid
from napari_unet.core.network.weight_map import border_weights
from napari_unet.core.tiling import smallest_input_px, valid_input_px
from napari_unet.engine.samples import AnnotatedPlane, Sample, Sampler, Source, random_grid

# A window has at most as many voxels as a cube of this side, in pixels, or of `_LEAST_HALOS` halos
# if that is more. In a smaller one most of the work would be spent on the halo.
_SIDE_PX, _LEAST_HALOS = 100, 3
# Width of a window, in pixels, for which the strength of the elastic deformation is given.
_ELASTIC_SIDE_PX = 380


class VolumeSampler(Sampler):
    """Draws random windows of stacks, as `Sampler` does of planes.

    A few painted planes of a stack are enough: all others have weight 0 (Çiçek et al. 2016,
    section 3). Windows are deformed within their planes and mirrored along all axes. The border
    weights are computed once for the whole stack, and deformed with it.
    """

    def draw(self) -> Sample:
        """Return the next random sample."""
        source = self._sources[self._rng.choice(len(self._sources), p=self._probability)]
        halos = [halo_px(depth) for depth in self._network.depths]
        n_planes = self._n_planes(source)
        shape = (n_planes, self.input_px, self.input_px)
        jitter = [(n - 2 * halo) / 4 for n, halo in zip(shape, halos, strict=True)]
        z, *centre = source.random_centre(self._rng, jitter)
        a, g = self._config.augment, self._generator
        # A window is smaller than one of a plane, so the displacements are smaller, too.
        sigma = a.elastic_sigma_px * min(1.0, self.input_px / _ELASTIC_SIDE_PX)
        grid = stack_grid(
            random_grid(
                source.shape[1:], centre, self.input_px, replace(a, elastic_sigma_px=sigma), g
            ),
            round(z) - n_planes // 2,
            n_planes,
            source.shape[0],
            flip=bool(a.flip and self._rng.random() < 0.5),
        )
        image = jitter_grey(
            warp(source.image, grid), grey=a.grey, noise=a.noise, invert=a.invert, generator=g
        )
        inner = grid[(slice(None), *(slice(halo, -halo) for halo in halos))]
        truth = warp(source.truth, inner, nearest=True).cpu().numpy()
        labels = separate_touching(truth[0].astype(np.int32))
        seen = truth[1] > 0.5
        classes = np.where(labels > 0, truth[2], 0).astype(np.int64)
        weight = (self.w_c[classes] + np.where(labels > 0, 0, truth[4])) * seen
        return Sample(
            image=image,
            labels=labels,
            classes=torch.from_numpy(classes).to(self._device),
            weight=torch.from_numpy(weight).to(self._device),
            seen=torch.from_numpy(seen).to(self._device),
            distance=torch.from_numpy(truth[3]).to(self._device),
            grid=grid,
            plane=source.plane,
        )

    def _source(self, plane: AnnotatedPlane) -> Source:
        labels = split_seen_pieces(plane.labels, plane.seen)
        apart = separate_touching(labels)
        distance = relative_distance(apart, plane.seen, plane.anisotropy)
        c = self._config
        border = border_weights(apart, c.w0, c.sigma_px, plane.anisotropy)
        return Source(plane, labels, [distance, border], self._device)

    def _size(self) -> int:
        """Return the side of the windows within the planes, in pixels, halo included."""
        depth = self._network.depth
        wide = max(max(source.shape[1:]) for source in self._sources)
        high = max(self._n_planes(source) for source in self._sources)
        # The window is a cube, or flatter and wider if there are few planes.
        side = max(math.isqrt(self._cube_px() ** 3 // high), self._cube_px())
        largest = min(side, self._config.side_px, wide + 2 * halo_px(depth) + 2**depth)
        return valid_input_px(max(largest, smallest_input_px(depth)), depth)

    def _n_planes(self, source: Source) -> int:
        """Return the number of planes of a window: those of the stack with halo, or of a cube."""
        depth = self._network.depths[0]
        needed = source.shape[0] + 2 * halo_px(depth) + 2**depth
        largest = min(self._cube_px(), self._config.side_px, needed)
        return valid_input_px(max(largest, smallest_input_px(depth)), depth)

    def _cube_px(self) -> int:
        return max(_SIDE_PX, _LEAST_HALOS * halo_px(self._network.depth))


def split_seen_pieces(
    labels: NDArray[np.int32], seen: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """Give each connected piece of a cell of a stack (Z, Y, X) its own id.

    Planes of which nothing was seen are ignored, so they do not cut a cell in two.
    """
    if seen is None:
        return split_pieces(labels)
    planes = seen.any((1, 2))
    pieces = np.zeros_like(labels)
    pieces[planes] = split_pieces(labels[planes])
    return pieces
