"""The choice of device, number format and tile size, and what happens when memory runs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from napari_unet.config import Device, Precision

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# GPUs that lack an operation that the networks need, as found since the program started.
_lacking: set[str] = set()
# Side of an input tile of a stack, in pixels, where the tile is a cube. CUDA gets a larger one.
_STACK_SIDE_PX = 188


@dataclass(frozen=True)
class Compute:
    """A device and a number format, by torch's names.

    Attributes
    ----------
    device
        "cpu", "cuda" or "mps".
    precision
        "float32" or "bfloat16".
    """

    device: str
    precision: str

    @property
    def torch_device(self) -> torch.device:
        """The device as torch's object."""
        import torch

        return torch.device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch's object."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def describe(self) -> str:
        """Return words for the user, for example "CPU, 8 threads, bfloat16"."""
        import torch

        if self.device == "cuda":
            where = torch.cuda.get_device_name()
        elif self.device == "mps":
            where = "Apple GPU"
        else:
            threads = torch.get_num_threads()
            where = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
        return f"{where}, {self.precision}"


def has_torch() -> bool:
    """Return whether this computer can compute: a client of a server may have no torch."""
    return find_spec("torch") is not None


def check_torch() -> None:
    """Raise ValueError with a sentence where there is no torch."""
    if not has_torch():
        raise ValueError(
            "there is no local computing here, since torch is not installed; choose a server, or "
            "install napari-unet in place of napari-unet-client"
        )


def choose(device: Device = "auto", precision: Precision = "auto") -> Compute:
    """Choose the device and the number format.

    Raises
    ------
    ValueError
        If this computer does not have the device that was asked for.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        device = next(
            name for name in ("cuda", "mps", "cpu") if there[name] and name not in _lacking
        )
    if not there.get(device, False):
        usable = ", ".join(name for name, here in there.items() if here)
        raise ValueError(f"the device {device!r} is not here; choose auto, or one of: {usable}")
    if precision == "auto":
        precision = "bfloat16" if _computes_in_bfloat16(device) else "float32"
    return Compute(device, precision)


def default_tile_px(compute: Compute, depth: int) -> int:
    """Return a side of the input tile, in pixels, that is fast and fits into common memories.

    On CUDA it is 2044 px. On other devices it is 18 halos, but at least 572 and at most 1020 px:
    for larger tiles the system clears new memory in each layer, and this takes more time than the
    smaller share of halo saves (`docs/benchmarks.md`).

    Parameters
    ----------
    compute
        The device and number format.
    depth
        Number of poolings of the network.
    """
    from napari_unet.core.network.unet import halo_px

    return 2044 if compute.device == "cuda" else min(max(572, 18 * halo_px(depth)), 1020)


def default_stack_tile_px(compute: Compute, depth: int, planes: int) -> int:
    """Return the side of an input tile of a stack, in pixels; more planes give a smaller side.

    Parameters
    ----------
    compute, depth
        As for `default_tile_px`.
    planes
        Number of planes of the tile.
    """
    side_px = round(_STACK_SIDE_PX * (1.25 if compute.device == "cuda" else 1))
    flat_px = math.isqrt(side_px**3 // planes)
    return min(default_tile_px(compute, depth), max(side_px, flat_px))


def run_within_memory(
    compute: Compute,
    tile_px: int,
    smallest_px: int,
    work: Callable[[Compute, int], T],
    on_retry: Callable[[str], None] = lambda message: None,
) -> T:
    """Call `work(compute, tile_px)`; if memory runs out, use smaller tiles, then the CPU.

    If a GPU lacks an operation, the CPU is used at once. The user is told so once, and the GPU is
    not tried again until the program starts anew.

    Parameters
    ----------
    compute
        The device and number format to begin with.
    tile_px
        Tile size to begin with, in pixels.
    smallest_px
        Smallest tile size to try, in pixels.
    work
        The function to call; it must have no lasting effect when it raises.
    on_retry
        Called with a sentence that says what is tried next.

    Raises
    ------
    ValueError
        If even the smallest tile does not fit on the CPU.
    """
    is_short = False
    for where, tile in _ladder(compute, tile_px, smallest_px):
        if where.device in _lacking:
            continue
        if is_short:
            on_retry(f"memory is short: trying tiles of {tile} px on the {where.device}")
        try:
            return work(where, tile)
        except (RuntimeError, MemoryError) as error:
            is_short = is_out_of_memory(error)
            if is_missing(error, where.device):
                _lacking.add(where.device)
                on_retry(f"{where.describe()} lacks an operation of the network: using the CPU")
            elif not is_short:
                raise
        _release(where)
    raise ValueError(
        f"there is not enough memory even for a tile of {smallest_px} px; "
        "close other programs or use a smaller model"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on any device."""
    import torch

    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    )


def is_missing(error: BaseException, device: str) -> bool:
    """Return whether an exception says that a GPU lacks an operation, as torch does for MPS."""
    return device != "cpu" and isinstance(error, NotImplementedError)


# Words in torch's messages when memory runs out: on CUDA and MPS, on the CPU under Linux, on the
# CPU under Windows, and in cuDNN and cuBLAS.
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")


def _ladder(compute: Compute, tile_px: int, smallest_px: int) -> Iterator[tuple[Compute, int]]:
    devices = [compute]
    if compute.device != "cpu":
        # A user who asked for float32 does not get bfloat16.
        devices.append(choose("cpu", "float32" if compute.precision == "float32" else "auto"))
    for where in devices:
        tile = tile_px
        while tile > smallest_px:
            yield where, tile
            tile //= 2
        yield where, smallest_px


def _release(compute: Compute) -> None:
    import torch

    if compute.device == "cuda":
        torch.cuda.empty_cache()
    elif compute.device == "mps":
        torch.mps.empty_cache()


def _computes_in_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies bfloat16 matrices; emulation would be slower."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False
