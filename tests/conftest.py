import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Examples take long at the first call of a network; on a build server they are the same each time.
settings.register_profile("default", settings(deadline=None))
settings.register_profile("ci", settings(deadline=None, derandomize=True, database=None))
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_user(tmp_path_factory):
    """No test touches the models of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_UNET_MODELS", str(tmp_path_factory.mktemp("user")))
        yield


@pytest.fixture
def models_folder(tmp_path, monkeypatch) -> Path:
    """The user's folder of models, empty, on a computer to which none was shipped."""
    from napari_unet.models import store as model_store

    folder = tmp_path / "user" / "models"
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(folder))
    monkeypatch.setattr(model_store, "SHIPPED", tmp_path / "shipped")
    return folder


@pytest.fixture
def store(models_folder):
    from napari_unet.models.store import ModelStore

    return ModelStore()


@pytest.fixture
def write_model():
    """Writes a model file, for which cells are what is bright: `write_model(path, name="m")`.

    With a `z_depth` it is a model of stacks.

    Small random weights let every layer, and the whole field of view, have a say.
    """
    import torch

    from napari_unet.core.network.unet import UNet, UNetConfig, initialise
    from napari_unet.models.checkpoint import save_model
    from napari_unet.models.header import ModelHeader

    def write(path, *, depth=1, width=2, in_channels=1, seed=0, noise=0.05, z_depth=None, **header):
        config = UNetConfig(
            depth=depth,
            width=width,
            in_channels=in_channels,
            n_classes=len(header.get("classes", ("background", "cell"))),
            dropout=0.0,
            z_depth=z_depth,
        )
        network = UNet(config)
        initialise(network, seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(noise)
            for convs in (network.down[0], network.join[-1]):
                for conv in (convs[0], convs[2]):
                    conv.weight[(0, 0, *(n // 2 for n in conv.kernel_size))] += 1.0
            network.head.weight[1, 0] += 20.0
            network.head.bias[1] -= 10.0
        save_model(path, network, ModelHeader(**{"name": "m", "architecture": {}, **header}))

    return write


@pytest.fixture
def add_model(store, write_model):
    """Adds such a model to the store: `add_model("m")` -> ModelVersion."""

    def add(name="m", **kwargs):
        return store.add(name, lambda path: write_model(path, **{"name": name, **kwargs}))

    return add


@pytest.fixture
def blobs():
    """Bright cells that do not touch on a dark noisy ground: `blobs(seed, shape)` -> both uint8
    image and labels."""

    def make(seed=0, shape=(72, 80), radius=6.0):
        rng = np.random.default_rng(seed)
        rows, columns = np.indices(shape)
        image = rng.normal(30, 4, shape)
        labels = np.zeros(shape, np.int32)
        for y in range(10, shape[0] - 8, 20):
            for x in range(10, shape[1] - 8, 20):
                cy, cx = y + rng.uniform(-2, 2), x + rng.uniform(-2, 2)
                cell = (rows - cy) ** 2 + (columns - cx) ** 2 <= (radius + rng.uniform(-1, 1)) ** 2
                labels[cell] = labels.max() + 1
                image[cell] += 170
        return image.clip(0, 255).astype(np.uint8), labels

    return make


@pytest.fixture
def nuclei(add_model):
    """The only model of the user."""
    return add_model("nuclei")


@pytest.fixture
def call(capsys):
    """Runs the command line in this process: (exit status, stdout, stderr)."""
    from napari_unet.cli import main

    def call(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def slow_machine(monkeypatch):
    """Each training step takes so many seconds of a clock that stands otherwise: `slow(5.0)`."""
    import time

    from napari_unet.engine.trainer import Trainer

    def slow(step_s):
        now, learn = [100.0], Trainer._learn

        def timed(trainer):
            now[0] += step_s
            return learn(trainer)

        monkeypatch.setattr(time, "perf_counter", lambda: now[0])
        monkeypatch.setattr(Trainer, "_learn", timed)

    return slow


@pytest.fixture
def corrections(store, blobs):
    """The corrections of nuclei, of which one was corrected again."""
    from napari_unet.corrections.annotations import Annotated, Correction
    from napari_unet.corrections.collection import collection_of

    collection = collection_of(store, "nuclei")
    for name, seed, rows in (("a", 0, 36), ("b", 1, 72), ("a", 0, 72)):
        image, labels = blobs(seed)
        trusted = np.arange(len(image))[:, None] < np.full(image.shape, rows)
        correction = Correction((), labels, trusted, {1: "dividing"} if name == "b" else {})
        collection.add(Annotated(image, "YX", (correction,), name), 0)
    return collection


@pytest.fixture
def service(store):
    from napari_unet.service.segmentation import SegmentationService

    service = SegmentationService(store)
    yield service
    service.close()


@pytest.fixture
def files_in():
    """Each file of a folder, with what is in it."""

    def files(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files


@pytest.fixture
def small_pieces(monkeypatch):
    """Large jobs come in pieces even where the image is small."""
    from napari_unet.large_images import job as volumes
    from napari_unet.segmentation import tiled_plane as large_plane

    monkeypatch.setattr(large_plane, "BLOCK_PX", 64)
    monkeypatch.setattr(volumes, "_GROUP_TILES", 9)


@pytest.fixture
def same_but_for_names():
    """Whether two labels differ in their ids alone."""

    def same(labels, expected):
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        once = all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
        return once and np.array_equal(labels > 0, expected > 0)

    return same
