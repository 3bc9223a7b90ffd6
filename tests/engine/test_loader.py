import itertools

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig
from napari_unet.core.network.unet import UNetConfig
from napari_unet.engine.loader import Batch, batches
from napari_unet.engine.samples import AnnotatedPlane, Sampler

CPU = torch.device("cpu")


def sampler(seed: int = 0) -> Sampler:
    labels = np.zeros((100, 100), np.int32)
    labels[20:60, 30:50] = 1
    image = (labels > 0)[None] * np.float32(0.7)
    config = FinetuneConfig(steps=1, tile_px=92, seed=seed)
    return Sampler([AnnotatedPlane(image, labels)], UNetConfig(depth=2, width=2), config, CPU)


def some(count: int, n_workers: int, size: int = 2, seed: int = 0) -> list[Batch]:
    layout = torch.channels_last
    return list(itertools.islice(batches(sampler(seed), size, n_workers, CPU, layout), count))


def equal(these: list[Batch], those: list[Batch]) -> bool:
    return all(
        torch.equal(one, other)
        for here, there in zip(these, those, strict=True)
        for one, other in zip(here, there, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [0, 2])
def test_shapes_types_and_layout(n_workers):
    (batch,) = some(1, n_workers, size=3)
    assert batch.image.shape == (3, 1, 92, 92)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.belief.tolist() == [0.0] * 3
    for truth, dtype in zip(
        batch[1:-1], (torch.int64, torch.float32, torch.bool, torch.float32), strict=True
    ):
        assert truth.shape == (3, 52, 52)
        assert truth.dtype == dtype


def test_without_processes_they_are_what_the_sampler_draws():
    draws = sampler()
    for batch in some(2, 0):
        for image, weight in zip(batch.image, batch.weight, strict=True):
            drawn = draws.draw()
            assert torch.equal(image, drawn.image)
            assert torch.equal(weight, drawn.weight)


@pytest.mark.slow
def test_each_process_draws_others_and_the_same_each_time():
    drawn = some(4, 2)
    images = [image for batch in drawn for image in batch.image]
    for one, other in itertools.combinations(images, 2):
        assert not torch.equal(one, other)
    assert equal(drawn, some(4, 2))
    assert not equal(drawn, some(4, 2, seed=1))
