"""Samples in batches, on the device that learns; drawn there, or by other processes beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_all_start_methods
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from napari_unet.engine.samples import Sampler

# On Linux a spawned process may abort as it ends, when its interpreter stops the thread that was
# handing out a sample; one of a fork server ends without that. Windows has spawn only.
_START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


class Batch(NamedTuple):
    """What one step learns from: `engine.samples.Sample`, each with an N in front.

    Attributes
    ----------
    image
        (N, C, S, S) float.
    classes
        (N, O, O) int64.
    weight
        (N, O, O) float32.
    seen
        (N, O, O) bool.
    distance
        (N, O, O) float32.
    belief
        (N,) float32, of the planes.
    """

    image: Tensor
    classes: Tensor
    weight: Tensor
    seen: Tensor
    distance: Tensor
    belief: Tensor


def batches(
    sampler: Sampler, size: int, n_workers: int, device: torch.device, layout: torch.memory_format
) -> Iterator[Batch]:
    """Batches without end.

    Parameters
    ----------
    sampler
        Draws on `device`; for other processes it has to draw on the CPU.
    size
        Samples in a batch.
    n_workers
        Processes that draw, each with random numbers of its own, so that the batches depend on
        their number as well; 0 draws in this one.
    device
        Where the batches are needed.
    layout
        How images lie in memory.
    """
    drawn: Iterator[Batch]
    if n_workers:
        loader = DataLoader(
            _Draws(sampler),
            size,
            num_workers=n_workers,
            pin_memory=device.type == "cuda",
            multiprocessing_context=_START,
        )
        drawn = iter(loader)
    else:
        drawn = (_stack(sampler, size) for _ in iter(int, 1))
    for batch in drawn:
        image, *truth = (each.to(device, non_blocking=True) for each in batch)
        yield Batch(image.to(memory_format=layout), *truth)


def _stack(sampler: Sampler, size: int) -> Batch:
    return Batch(*map(torch.stack, zip(*(_draw(sampler) for _ in range(size)), strict=True)))


def _draw(sampler: Sampler) -> Batch:
    s = sampler.draw()
    belief = torch.tensor(s.plane.belief)
    return Batch(s.image, s.classes, s.weight, s.seen, s.distance, belief)


class _Draws(IterableDataset[Batch]):
    """A sampler's samples, in each process others."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None:
            self._sampler.reseed(worker.id)
        while True:
            yield _draw(self._sampler)
