"""Batches of samples on the training device, drawn there or by other processes in advance."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_all_start_methods
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from napari_unet.engine.samples import Sampler

# How other processes are started. On Linux a spawned process may crash when it ends, because its
# interpreter stops the thread that sends a sample. A process of a fork server does not. Windows
# can only spawn.
_START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


class Batch(NamedTuple):
    """The samples of one training step: fields of `engine.samples.Sample` with a first axis N.

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
        (N,) float32, `AnnotatedPlane.belief` of the plane of each sample.
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
    """Yield batches without end.

    Parameters
    ----------
    sampler
        Draws the samples, on `device`, or on the CPU if other processes draw.
    size
        Number of samples in a batch.
    n_workers
        Number of processes that draw. Each has its own random numbers, so the batches depend on
        this number as well. With 0 this process draws.
    device
        Where the batches are needed.
    layout
        Memory format of the images.
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
    """The samples of a sampler as a data set; each process draws other ones."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None:
            self._sampler.reseed(worker.id)
        while True:
            yield _draw(self._sampler)
