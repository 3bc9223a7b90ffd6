import gc
import weakref

import pytest
import torch

from napari_unet.models import device
from napari_unet.models.device import (
    Compute,
    choose,
    default_tile_px,
    is_out_of_memory,
    run_within_memory,
)

CPU = Compute("cpu", "float32")
CUDA = Compute("cuda", "bfloat16")
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")

# As they come from torch: CUDA, MPS, the CPU on Linux and on Windows, cuDNN, and NumPy.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError("Unable to allocate 9.0 EiB for an array"),
]


class Work:
    """Runs out of memory above a number of pixels on each device."""

    def __init__(self, error=OUT_OF_MEMORY[0], **largest_px):
        self.error, self.largest_px, self.tried = error, largest_px, []

    def __call__(self, compute, tile_px):
        self.tried.append((compute.device, tile_px))
        if tile_px > self.largest_px.get(compute.device, 10**6):
            raise self.error
        return f"{compute.device} {tile_px}"


def test_auto_finds_a_device_that_computes():
    compute = choose()
    assert compute.device in ("cpu", "cuda", "mps")
    x = torch.ones(4, 4, device=compute.torch_device, dtype=compute.torch_dtype)
    assert float((x @ x).sum()) == 64


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(precision):
    assert choose("cpu", precision) == Compute("cpu", precision)
    assert choose("cpu", precision).torch_dtype == getattr(torch, precision)
    assert choose("cpu", precision).torch_device == torch.device("cpu")


def test_bfloat16_is_automatic_only_where_the_processor_has_it(monkeypatch):
    for has in ({"avx512_bf16": True}, {"amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert choose("cpu").precision == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert choose("cpu").precision == "float32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose("cpu").precision == "float32"


@no_cuda
@pytest.mark.parametrize("asked", ["cuda", "tpu"])
def test_a_device_that_is_not_there(asked):
    with pytest.raises(ValueError, match=f"'{asked}' is not here; choose auto, or one of:.* cpu"):
        choose(asked)


def test_the_device_in_words(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert Compute("cpu", "bfloat16").describe() == "CPU, 1 thread, bfloat16"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert CPU.describe() == "CPU, 8 threads, float32"
    assert Compute("mps", "float32").describe() == "Apple GPU, float32"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    assert CUDA.describe() == "H200, bfloat16"


def test_default_tiles_are_valid_inputs_at_the_usual_depth():
    from napari_unet.core.tiling import valid_input_px

    for compute in (CPU, CUDA):
        assert valid_input_px(default_tile_px(compute, 4), 4) == default_tile_px(compute, 4)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_halo_costs_at_most_half_as_much_as_the_output(depth):
    from napari_unet.core.network.unet import halo_px

    for compute in (CPU, CUDA):
        side = default_tile_px(compute, depth)
        assert side**2 <= 1.5 * (side - 2 * halo_px(depth)) ** 2


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_out_of_memory_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), KeyError("k")],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_enough_memory_means_one_try():
    work, told = Work(), []
    assert run_within_memory(CPU, 1020, 204, work, told.append) == "cpu 1020"
    assert work.tried == [("cpu", 1020)]
    assert told == []


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_tiles_get_smaller_until_they_fit(error):
    work, told = Work(error, cpu=300), []
    assert run_within_memory(CPU, 1020, 204, work, told.append) == "cpu 255"
    assert work.tried == [("cpu", 1020), ("cpu", 510), ("cpu", 255)]
    assert told == [
        "memory is short: trying tiles of 510 px on the cpu",
        "memory is short: trying tiles of 255 px on the cpu",
    ]


def test_then_comes_the_cpu_and_then_a_sentence():
    work = Work(cuda=0, cpu=204)
    assert run_within_memory(CUDA, 500, 204, work) == "cpu 204"
    assert work.tried == [(d, px) for d in ("cuda", "cpu") for px in (500, 250, 204)]
    work = Work(cuda=0, cpu=0)
    with pytest.raises(ValueError, match="not enough memory even for a tile of 204 px; close"):
        run_within_memory(CUDA, 500, 204, work)
    assert len(work.tried) == 6


def test_no_tile_is_tried_twice_or_below_the_smallest():
    for tile in (100, 204, 205, 408, 1000):
        work = Work(cpu=0)
        with pytest.raises(ValueError, match="not enough memory"):
            run_within_memory(CPU, tile, 204, work)
        sizes = [px for _, px in work.tried]
        assert sizes == sorted(set(sizes), reverse=True)
        assert sizes[-1] == 204


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("k"), ValueError("v")])
def test_other_errors_pass_through_at_once(error):
    work = Work(error, cpu=0)
    with pytest.raises(type(error)) as caught:
        run_within_memory(CPU, 1020, 204, work)
    assert caught.value is error
    assert len(work.tried) == 1


def test_the_fallback_never_computes_in_coarser_numbers(monkeypatch):
    monkeypatch.setattr(device, "_computes_in_bfloat16", lambda where: True)
    for precision in ("float32", "bfloat16"):
        used = []

        def work(compute, tile_px, used=used):
            used.append(compute)
            if compute.device == "cuda":
                raise OUT_OF_MEMORY[0]

        run_within_memory(Compute("cuda", precision), 204, 204, work)
        assert used[-1] == Compute("cpu", precision)


@pytest.mark.slow
def test_what_the_failed_try_held_is_free_before_the_next():
    held = []

    class Tensor:
        pass

    def work(compute, tile_px):
        gc.collect()
        assert not [kept for kept in held if kept() is not None]
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if tile_px > 204:
            raise torch.OutOfMemoryError("out of memory")

    run_within_memory(CPU, 816, 204, work)
    assert len(held) == 3


@pytest.fixture
def mps(monkeypatch):
    """An Apple GPU that lacks an operation, as torch says it; stands in for a real one."""
    monkeypatch.setattr(device, "_lacking", set())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = "The operator 'aten::x' is not currently implemented for the MPS device."
    return Work(NotImplementedError(words), mps=0)


def test_a_gpu_that_lacks_an_operation_is_left_for_the_cpu_with_one_notice(mps):
    told, where = [], choose("auto", "float32")
    assert where == Compute("mps", "float32")
    for _ in range(3):
        assert run_within_memory(where, 500, 204, mps, told.append) == "cpu 500"
    assert mps.tried == [("mps", 500), *[("cpu", 500)] * 3]
    assert told == ["Apple GPU, float32 lacks an operation of the network: using the CPU"]
    assert choose("auto").device == "cpu"


def test_what_the_cpu_lacks_is_an_error():
    error = NotImplementedError("not for the CPU")
    with pytest.raises(NotImplementedError) as caught:
        run_within_memory(CPU, 500, 204, Work(error, cpu=0))
    assert caught.value is error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_real_gpu_that_runs_out_of_memory_hands_over():
    def work(compute, tile_px):
        if compute.device == "cuda":
            torch.empty(2**62, dtype=torch.uint8, device="cuda")
        return compute.device

    assert run_within_memory(choose("cuda"), 500, 204, work) == "cpu"
