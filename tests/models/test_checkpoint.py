import hashlib
import json
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.models.checkpoint import architecture, load_model, save_model
from napari_unet.models.header import ModelFileError, ModelHeader, read_header

CONFIG = UNetConfig(depth=2, width=3, in_channels=2, n_classes=3, dropout=0.25)
CLASSES = ("background", "cell", "dividing")


@pytest.fixture
def network() -> UNet:
    network = UNet(CONFIG)
    initialise(network, 4)
    return network


def header(**changes) -> ModelHeader:
    facts = {"name": "m", "architecture": architecture(UNet(CONFIG)), "classes": CLASSES}
    return ModelHeader(**{**facts, **changes})


@pytest.fixture
def path(tmp_path, network) -> Path:
    path = tmp_path / "m.safetensors"
    save_model(path, network, header())
    return path


class Bomb:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_weights_and_header_survive_the_round_trip(tmp_path, network):
    path = tmp_path / "m.safetensors"
    full = header(seed=3, steps=5, scores={"ap50": 0.5}, trained_on=("cells",), parent="ab" * 32)
    save_model(path, network.to(memory_format=torch.channels_last), full)
    loaded, read = load_model(path)
    assert read == full == read_header(path)
    assert loaded.config == CONFIG
    assert not loaded.training
    expected = network.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name])


def test_a_loaded_model_gives_the_same_logits_and_can_be_trained(path, network):
    loaded, _ = load_model(path)
    image = torch.randn(1, 2, 44, 44)
    logits = loaded(image)
    assert torch.equal(logits, network.eval()(image))
    logits.sum().backward()
    torch.optim.SGD(loaded.parameters(), 0.1).step()
    assert not torch.equal(loaded(image), logits)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, path, network):
    half = tmp_path / "half.safetensors"
    save_model(half, network, header(), half=True)
    assert half.stat().st_size < 0.7 * path.stat().st_size
    loaded, _ = load_model(half)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[name].half().float())


def test_the_sum_is_that_of_the_file(tmp_path, network):
    path = tmp_path / "m.safetensors"
    first = save_model(path, network, header())
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    assert save_model(tmp_path / "same.safetensors", network, header()) == first
    assert save_model(tmp_path / "other.safetensors", network, header(seed=9)) != first


def test_the_header_takes_the_architecture_of_the_network(tmp_path, network):
    path = tmp_path / "m.safetensors"
    save_model(path, network, header(architecture={"depth": 4, "width": 64}))
    assert UNetConfig(**read_header(path).architecture) == CONFIG
    assert load_model(path)[0].config == CONFIG


def test_the_architecture_makes_the_same_configuration():
    assert UNetConfig(**architecture(UNet(CONFIG))) == CONFIG
    assert json.loads(json.dumps(architecture(UNet(CONFIG)))) == architecture(UNet(CONFIG))


def test_a_truncated_file_is_refused(path):
    content = path.read_bytes()
    for share in (0.001, *(percent / 100 for percent in range(100))):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(
            ModelFileError, match=r"m.safetensors is (broken|not a model of napari-unet)"
        ):
            load_model(path)


def test_random_bytes_are_refused(path):
    for seed in range(50):
        path.write_bytes(random.Random(seed).randbytes(2000))
        with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
            load_model(path)


def test_a_header_of_101_mb_is_refused_unread(path):
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 101_000_000) + content[8:])
    os.truncate(path, 101_000_008 + len(content))  # takes no room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_file_with_more_at_its_end_is_refused(path):
    path.write_bytes(path.read_bytes() + b"\0" * 16)
    with pytest.raises(ModelFileError, match=r"is broken: \d+ bytes of weights are in it, and"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 4}, "'down.0.0.weight' are 3 x 2 x 3 x 3, and should be 4 x 2 x 3 x 3"),
        ({"depth": 3}, "'down.3.0.weight' are missing, and should be 24 x 12 x 3 x 3"),
        ({"depth": 1}, "'up.0.weight' are 12 x 6 x 2 x 2, and should be 6 x 3 x 2 x 2"),
        ({"z_depth": 1}, "'down.0.0.weight' are 3 x 2 x 3 x 3, and should be 3 x 2 x 1 x 3 x 3"),
        ({"in_channels": 1}, "'down.0.0.weight' are 3 x 2 x 3 x 3, and should be 3 x 1 x 3 x 3"),
        ({"distance": True}, "'head.weight' are 3 x 3 x 1 x 1, and should be 4 x 3 x 1 x 1"),
    ],
)
def test_the_first_weights_that_do_not_fit_the_header_are_named(tmp_path, network, changes, words):
    path = tmp_path / "m.safetensors"
    wrong = header(architecture={**architecture(network), **changes})
    path.write_bytes(save(network.state_dict(), metadata=wrong.to_metadata()))
    with pytest.raises(ModelFileError, match=f"m.safetensors is broken: its weights {words}"):
        load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(path, network, value):
    with torch.no_grad():
        network.head.bias[1] = value
    save_model(path, network, header())
    with pytest.raises(
        ModelFileError, match=r"its weights 'head.bias' hold NaN or inf, and should"
    ):
        load_model(path)


def test_missing_and_foreign_weights_are_refused(tmp_path, network):
    path = tmp_path / "m.safetensors"
    tensors = network.state_dict()
    bias = tensors.pop("head.bias")
    for content in (tensors, {**tensors, "head.bias": bias, "more": torch.zeros(3)}):
        path.write_bytes(save(content, metadata=header().to_metadata()))
        with pytest.raises(ModelFileError, match=r"is broken: its weights '(head.bias|more)' "):
            load_model(path)


def test_safetensors_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"x": torch.zeros(3)}))
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*gone; give the path of a model"):
        load_model(tmp_path / "gone")


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "m.safetensors"
    torch.save(Bomb(mark), path)
    for content in (path.read_bytes(), pickle.dumps(Bomb(mark))):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
            load_model(path)
    metadata = {**header().to_metadata(), "more": pickle.dumps(Bomb(mark)).decode("latin1")}
    path.write_bytes(save(UNet(CONFIG).state_dict(), metadata=metadata))
    load_model(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb would have worked"


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "replace")])
def test_a_crash_while_saving_leaves_the_old_file(monkeypatch, path, network, fault, place):
    old = path.read_bytes()

    def crash(*_):
        raise fault

    monkeypatch.setattr(*place, crash)
    with pytest.raises(type(fault)):
        save_model(path, network, header(seed=99))
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name], "no part is left behind"
    load_model(path)


def test_a_half_written_header_length_cannot_exhaust_the_memory(path):
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**62) + content[8:])
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        load_model(path)


def test_a_model_of_stacks_survives_the_round_trip(tmp_path):
    network = UNet(UNetConfig(depth=2, width=2, z_depth=0))
    initialise(network, 1)
    path = tmp_path / "m.safetensors"
    save_model(path, network, header(anisotropy=3.0, classes=CLASSES[:2]))
    loaded, read = load_model(path)
    assert loaded.config == network.config
    assert read.for_stacks
    assert read.anisotropy == 3.0
    assert not header().for_stacks
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
