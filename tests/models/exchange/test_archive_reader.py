import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from napari_unet import segment
from napari_unet.config import PredictConfig
from napari_unet.engine.predict import Predictor, foreground_scores
from napari_unet.models.checkpoint import load_model
from napari_unet.models.exchange.onnx_graph import onnx_bytes
from napari_unet.models.header import ModelFileError
from napari_unet.models.loaded import LoadedModel
from napari_unet.service.segmentation import SegmentationService


def repacked(path, change=None, **files):
    """A copy of an archive with other files, and a description that `change` changed."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= files
    if change is not None:
        described = yaml.safe_load(content["bioimageio.yaml"])
        change(described)
        content["bioimageio.yaml"] = yaml.safe_dump(described).encode()
    new = path.with_name(f"new-{path.name}")
    with zipfile.ZipFile(new, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return new


def test_our_own_archive_comes_back_as_the_same_file(store, add_model, tmp_path):
    pytest.importorskip("onnx")
    model = add_model("cells", trained_on=("yeast, CC0",), postprocess={"threshold": 0.4})
    path = store.export(model, tmp_path / "cells.zip")
    back = store.import_file(path, "back")
    assert back.path.read_bytes() == model.path.read_bytes()
    assert back.header == model.header
    # A folder is as good, and other weights beside it are not taken for the old ones.
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "cells")
    assert store.import_file(tmp_path / "cells", "back").header == model.header
    (tmp_path / "cells" / "weights.onnx").write_bytes(b"trained further")
    with pytest.raises(ModelFileError, match="weights are damaged"):
        store.import_file(tmp_path / "cells")


def test_a_foreign_network_segments_as_it_would_alone(store, foreign_zip, blobs):
    image, truth = blobs()
    path = foreign_zip()
    model = store.import_file(path)
    assert (model.reference, model.header.licence) == ("little-net@1", "MIT")
    assert model.header.foreign["told"] == (
        "cells are where 'foreground' is high, divided where 'boundaries' is"
    )
    native = PredictConfig(diameter_px=None)
    labels = segment(image, model, config=native)
    assert labels.max() == truth.max()
    assert ((labels > 0) == (truth > 0)).mean() > 0.97
    # The scores are those of the graph, whatever the tiles.
    whole = np.tile(image, (4, 4))
    centred = (whole - whole.mean()) / whole.std()
    alone = 1 / (1 + np.exp(3 - 6 * centred))
    for tile in (220, 700):
        np.testing.assert_allclose(foreground(model, whole, tile), alone, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("bioimageio_core")
def test_a_foreign_archive_that_bioimageio_packed(store, foreign_zip, tmp_path):
    code = """
import sys
from bioimageio.spec import load_model_description, save_bioimageio_package
save_bioimageio_package(load_model_description(sys.argv[1]), output_path=sys.argv[2])
"""
    packed = tmp_path / "packed.zip"
    done = subprocess.run(
        [sys.executable, "-c", code, foreign_zip(), packed], capture_output=True, text=True
    )
    assert packed.exists(), done.stderr
    assert store.import_file(packed).header.foreign["foreground"] == 0


def foreground(model, image, tile=220):
    """The scores of a model for an image (Y, X), as the program computes them."""
    loaded = LoadedModel(*load_model(model.path))
    predictor = Predictor(loaded.network, torch.device("cpu"))
    return foreground_scores(predictor.logits(loaded.prepare(image[None]), tile)[:2])


@pytest.mark.slow
@pytest.mark.parametrize("framed", [True, False])
def test_our_own_network_as_a_foreign_one_gives_the_same_scores(
    store, add_model, tmp_path, blobs, framed
):
    pytest.importorskip("onnx")
    model = add_model("cells")
    path = store.export(model, tmp_path / "cells.zip")
    graph = onnx_bytes(*load_model(model.path), framed=framed)

    def foreign(content):
        content["config"] = {}
        content["weights"]["onnx"].pop("sha256")
        if framed:
            return
        # At depth 1: sizes of 2 b + 4, of which 16 px are lost.
        for axis in content["outputs"][0]["axes"][2:]:
            del axis["halo"]
            axis["size"]["offset"] = -16
        for axis in content["inputs"][0]["axes"][2:]:
            axis["size"]["min"] = 22

    back = store.import_file(repacked(path, foreign, **{"weights.onnx": graph}))
    assert back.header.foreign["told"] == "cells are where 'cell' is high"
    image = np.tile(blobs()[0], (3, 3))
    np.testing.assert_allclose(foreground(back, image), foreground(model, image), atol=1e-3)


def test_a_foreign_network_is_not_fine_tuned(store, foreign_zip):
    store.import_file(foreign_zip(names=("cells",)))
    service = SegmentationService(store=store)
    with pytest.raises(ModelFileError, match="little-net@1 is a model of another program: it seg"):
        service.finetune([], "little-net")
    with pytest.raises(ModelFileError, match="is exported as a model of napari-unet only"):
        store.export("little-net", store.root / "x.zip")
    copy = store.export("little-net", store.root / "x.safetensors")
    assert store.import_file(copy).version == 2


def onnx_away(content):
    content["weights"] = {"torchscript": {"source": "w.pt"}}


def names(*channels):
    def change(content):
        content["outputs"][0]["axes"][1]["channel_names"] = list(channels)

    return change


def step(size):
    def change(content):
        content["inputs"][0]["axes"][2]["size"] = size

    return change


def prepared(*steps):
    def change(content):
        content["inputs"][0]["preprocessing"] = [{"id": s} for s in steps]

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (onnx_away, "it has neither ONNX weights nor a PyTorch state_dict; add ONNX"),
        (names("red", "green"), "its output channels are red, green; one of foreground"),
        (names("a", "b", "c", "d"), "its output channels are a, b, c, d; one of foreground"),
        (step(256), "it takes images of 256 px only"),
        (step({"min": 10, "step": 16}), "its sizes begin at 10 px, which is no multiple of 16 px"),
        (step({"min": 24, "step": 24}), "it takes steps of 24 px"),
        (step({"min": 16, "step": 0}), "its sizes begin at 16 px, which is no multiple of 0 px"),
        (step({"min": 16, "step": True}), "one of its sizes is True, and should be a whole numb"),
        (prepared(), "it prepares images by nothing"),
        (prepared("scale_linear"), "it prepares images by scale_linear"),
        (lambda c: c.update(format_version="0.4.10"), r"be read as the format 0\.4\.10; 0"),
        (lambda c: c["inputs"].append({}), "it has 2 inputs, and 1 is needed"),
        (lambda c: c["inputs"][0]["axes"].pop(0), "has the axes channel, y, x, and batch"),
        (lambda c: c.update(type="dataset"), "is of bioimage.io, and no model"),
        (lambda c: c["weights"]["onnx"].update(sha256="0" * 64), "its ONNX weights are damaged"),
        (lambda c: c["weights"]["onnx"].update(source="https://x.org/net.onnx"), "not in the arc"),
        (lambda c: c["weights"]["onnx"].update(source="../net.onnx"), "'../net.onnx' is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(store, foreign_zip, change, why):
    with pytest.raises(ModelFileError, match=why):
        store.import_file(foreign_zip(change=change))
    assert store.names() == []


@pytest.mark.slow
def test_a_strangers_zip(store, foreign_zip, tmp_path):
    path = foreign_zip()
    for yaml_text, why in (
        (b"!!python/object/apply:os.system ['touch hacked']", "cannot be read; take another"),
        (b"[" * 100_000, "cannot be read; take another copy"),
        (b"\xff\xfe", "cannot be read; take another copy"),
        (b"a: 1\n" * 300_000, "has more than 0 MiB"),
    ):
        with pytest.raises(ModelFileError, match=why):
            store.import_file(repacked(path, **{"bioimageio.yaml": yaml_text}))
    with pytest.raises(ModelFileError, match="cannot be run"):
        store.import_file(
            repacked(path, lambda c: c["weights"]["onnx"].pop("sha256"), **{"net.onnx": b"x"})
        )
    many = {f"file{n}": b"" for n in range(1001)}
    with pytest.raises(ModelFileError, match="holds more than 1000 files"):
        store.import_file(repacked(path, **many))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelFileError, match=r"there is no bioimageio\.yaml in it"):
        store.import_file(tmp_path / "other.zip")
    # Damaged, or encrypted as its flags say.
    whole = repacked(path).read_bytes()
    at = whole.index(b"net.onnx") + 40
    encrypted = whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert encrypted != whole
    for number, damaged in enumerate((whole[:at] + b"xxxx" + whole[at + 4 :], encrypted)):
        (tmp_path / f"{number}.zip").write_bytes(damaged)
        with pytest.raises(ModelFileError, match="cannot be read"):
            store.import_file(tmp_path / f"{number}.zip")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        store.import_file(cut)
    # In a folder, a link that leads out of it.
    folder = tmp_path / "folder"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    shutil.move(folder / "net.onnx", tmp_path / "net.onnx")
    (folder / "net.onnx").symlink_to(tmp_path / "net.onnx")
    with pytest.raises(ModelFileError, match=r"'net\.onnx' is no file in it"):
        store.import_file(folder)
    assert store.names() == []


def test_values_that_are_no_probabilities_are_refused(store, foreign_zip):
    import onnx

    def raw(path):
        with zipfile.ZipFile(path) as archive:
            model = onnx.load_from_string(archive.read("net.onnx"))
        # The output of the convolution, which goes far beyond 1.
        model.graph.node.pop()
        model.graph.output[0].name = "c"
        return model.SerializeToString()

    path = foreign_zip()
    changed = repacked(
        path, lambda c: c["weights"]["onnx"].pop("sha256"), **{"net.onnx": raw(path)}
    )
    with pytest.raises(ModelFileError, match="probabilities from 0 to 1 are needed"):
        store.import_file(changed)

    # Where the description says that a sigmoid follows, it is taken.
    def sigmoid(content):
        content["weights"]["onnx"].pop("sha256")
        content["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}]

    model = store.import_file(repacked(path, sigmoid, **{"net.onnx": raw(path)}))
    assert model.header.foreign["sigmoid"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: h["foreign"].pop("boundary"), "its entry foreign should have told, foreground"),
        (lambda h: h["foreign"].update(boundary=-1), "a distance if there is a boundary"),
        (lambda h: h["architecture"].update(depth=8), "a depth up to 6"),
        (lambda h: h["foreign"].update(foreground=7), "should be a whole number from 0 to 2"),
        (lambda h: h["foreign"].clear(), "should be one of F16"),
    ],
)
def test_a_model_file_of_a_foreign_network_is_checked(store, foreign_zip, tmp_path, change, why):
    model = store.import_file(foreign_zip())
    arrays = load_file(model.path)
    header = json.loads(model.header.to_metadata()["napari_unet"])
    change(header)
    path = tmp_path / "changed.safetensors"
    save_file(arrays, path, metadata={"napari_unet": json.dumps(header)})
    with pytest.raises(ModelFileError, match=why):
        store.import_file(path)
