"""Predict logits of a plane or stack in overlapping tiles (Ronneberger et al. 2015, figure 2)."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_unet.core.network.unet import UNet
from napari_unet.core.tiling import Box, Tile, plan_tiles, read_mirrored

# A function that waits for the logits of a tile and returns them.
_Logits = Callable[[], NDArray[np.float32]]


class Predictor:
    """Predicts the logits of planes, or stacks, of any size on one device.

    Parameters
    ----------
    network
        The network, which is not changed; a copy is moved to the device.
    device
        Where to run.
    dtype
        Number format of the convolutions; logits come back as float32.
    """

    def __init__(
        self, network: UNet, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = network.config
        self.device, self.dtype = device, dtype
        self._network = copy.deepcopy(network).to(device, dtype).eval()
        self._layout = memory_layout(network)
        # A GPU computes one tile while the one before is fetched and the next is read.
        self._ahead = int(device.type == "cuda")
        self._network.to(memory_format=self._layout)  # type: ignore[call-overload]
        if device.type == "cpu" and dtype == torch.bfloat16:
            _fuse(self._network)

    def logits(
        self,
        plane: NDArray[np.float32],
        tile_px: int,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Return the logits (n_outputs, Y, X) of a normalised plane (C, Y, X).

        They are the same for every tile size. Those of a stack (C, Z, Y, X) are
        (n_outputs, Z, Y, X).

        Parameters
        ----------
        plane
            Normalised intensities.
        tile_px
            Largest input tile along an axis, halo included, in pixels.
        on_tile
            Called with (tiles done, tiles in all) before the first and after each tile. It may
            raise an exception to stop.

        Raises
        ------
        ValueError
            If the plane has another number of channels than the network.
        FloatingPointError
            If a logit is not finite, which too large weights cause.
        """
        shape = plane.shape[1:]
        tiles = plan_tiles(shape, tile_px, self.config.depths)
        out = np.empty((self.config.n_outputs, *shape), np.float32)
        on_tile(0, len(tiles))
        started: deque[tuple[Tile, _Logits]] = deque()
        done = 0
        for tile in tiles:
            started.append((tile, self._start(lambda box: plane[(slice(None), *box)], shape, tile)))
            ahead = 0 if tile is tiles[-1] else self._ahead
            while len(started) > ahead:
                oldest, logits = started.popleft()
                out[(slice(None), *oldest.write)] = logits()
                done += 1
                on_tile(done, len(tiles))
        return out

    def tile_logits(
        self, read: Callable[[Box], NDArray[np.float32]], shape: Sequence[int], tile: Tile
    ) -> NDArray[np.float32]:
        """Return the logits (n_outputs, y, x) of the part of a plane that one tile writes.

        Parameters
        ----------
        read
            Returns a box of the normalised plane (C, Y, X), or stack (C, Z, Y, X).
        shape
            (Y, X) of the plane, or (Z, Y, X) of the stack.
        tile
            One of the tiles of `core.tiling.plan_tiles`.

        Raises
        ------
        ValueError, FloatingPointError
            As `logits`.
        """
        return self._start(read, shape, tile)()

    def _start(
        self, read: Callable[[Box], NDArray[np.float32]], shape: Sequence[int], tile: Tile
    ) -> _Logits:
        part = read_mirrored(read, shape, tile.read)
        if len(part) != self.config.in_channels:
            raise ValueError(
                f"the image has {len(part)} channels and the model takes "
                f"{self.config.in_channels}; choose the channels or another model"
            )
        fetch = self._run(torch.from_numpy(np.ascontiguousarray(part)))

        def logits() -> NDArray[np.float32]:
            found = fetch()[(slice(None), *tile.crop)]
            if not np.isfinite(found).all():
                raise FloatingPointError(
                    "the network gives no numbers for this image: its weights are damaged, or the "
                    "training went wrong; take another copy or version of the model"
                )
            return found

        return logits

    @torch.inference_mode()
    def _run(self, tile: Tensor) -> _Logits:
        """Start to compute a tile, and return a function that waits for its logits."""
        if self.device.type != "cuda":
            batch = tile[None].to(self.device, self.dtype, memory_format=self._layout)
            logits: NDArray[np.float32] = self._network(batch)[0].float().cpu().numpy()
            return lambda: logits
        batch = tile[None].pin_memory().to(self.device, non_blocking=True)
        found = self._network(batch.to(self.dtype, memory_format=self._layout))[0]
        here = torch.empty(found.shape, pin_memory=True)
        here.copy_(found.float().contiguous(), non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()

        def fetch() -> NDArray[np.float32]:
            copied.synchronize()
            there: NDArray[np.float32] = here.numpy()
            return there

        return fetch


class _ConvReLU(nn.Module):
    """A 3x3 convolution and its ReLU in one pass over memory, with exactly the same results."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._conv = conv

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._conv.weight, self._conv.bias
        once, none = [1, 1], [0, 0]
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, none, once, once, 1, "relu", [], ""
        )
        return out


def _fuse(network: UNet) -> None:
    """Join each convolution with the ReLU after it, if this torch can do that (with oneDNN)."""
    # torch.compile calls this function. Its name is not public, so it may disappear one day.
    there = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    if not (there and torch.backends.mkldnn.is_available()):
        return
    for pairs in (network.down, network.join):
        for i, pair in enumerate(pairs):
            convs = [layer for layer in pair.children() if isinstance(layer, nn.Conv2d)]
            if convs:
                pairs[i] = nn.Sequential(*map(_ConvReLU, convs))


def memory_layout(network: UNet) -> torch.memory_format:
    """Return the memory format of a network's tensors: channels last, twice as fast on a CPU."""
    planes = network.config.z_depth is None
    return torch.channels_last if planes else torch.channels_last_3d


def foreground_scores(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability (Y, X) of not being background, from logits (K, Y, X).

    It is the softmax of the logits. Stacks have a Z before Y in both.
    """
    highest = logits[1:].max(axis=0)
    others = np.exp(logits[1:] - highest).sum(axis=0)
    with np.errstate(over="ignore"):
        scores: NDArray[np.float32] = 1 / (1 + np.exp(logits[0] - highest) / others)
    return scores


def in_16_bits(scores: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round scores in [0, 1] to 16 bits, as the scores of large planes are stored.

    NumPy returns the same numbers, but is a hundred times slower if many are nearly 0.
    """
    rounded: NDArray[np.float16] = torch.from_numpy(scores).half().numpy()
    return rounded
