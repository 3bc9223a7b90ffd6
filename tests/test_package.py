import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_unet

HEAVY = {"torch", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "vispy"}
HEAVY |= {"cryptography", "dask", "distributed", "liffile", "nd2", "pylibCZIrw"}


@pytest.mark.parametrize(
    "program",
    [
        "import napari_unet",
        "import napari_unet.cli",
        "import napari_unet; napari_unet.segment, napari_unet.finetune, napari_unet.PredictConfig",
        "import napari_unet.service.segmentation as s; s.SegmentationService().close()",
        "import napari_unet.service.image_files, napari_unet.service.evaluation",
        "import napari_unet; napari_unet.load_model, napari_unet.measure, dir(napari_unet)",
    ],
)
def test_importing_loads_neither_torch_nor_a_window(program):
    found = f"import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{found}"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_public_names_are_there():
    from napari_unet import api, config

    assert napari_unet.segment is api.segment
    assert napari_unet.finetune is api.finetune
    assert napari_unet.measure is api.measure
    assert napari_unet.load_model is api.load_model
    assert napari_unet.PredictConfig is config.PredictConfig
    assert napari_unet.FinetuneConfig is config.FinetuneConfig
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'napari_unet' has no attribute 'segmnet'"):
        napari_unet.segmnet()


def test_the_version_is_the_projects():
    project = Path(__file__).parents[1] / "pyproject.toml"
    with project.open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == napari_unet.__version__
