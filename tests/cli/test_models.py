import json

import pytest

from napari_unet.models.checkpoint import load_model
from napari_unet.models.store import ModelStore

pytestmark = pytest.mark.usefixtures("nuclei")


def test_models_list_marks_the_active(call, add_model):
    add_model("cells", trained_on=("yeast, CC0",), created="2024-01-01T00:00:00+00:00")
    add_model("cells")
    status, stdout, _ = call("models", "list")
    assert status == 0
    lines = stdout.splitlines()
    assert [line.split()[:2] for line in (lines[1], lines[2])] == [
        ["*", "cells@2"],
        ["*", "nuclei@1"],
    ]
    assert lines[0].split() == ["cells@1", "2024-01-01T00:00:00+00:00", "yeast,", "CC0"]


def test_models_list_tells_what_was_refused(call, store, nuclei, tmp_path):
    def copy(path):
        path.write_bytes(nuclei.path.read_bytes())

    for name in ("nuclei", "mine"):
        store.add(name, copy, activate=False)
    lines = call("models", "list")[1].splitlines()
    told = {"mine@1 refused", "* nuclei@1", "nuclei@2 refused"}
    assert {" ".join(line.split()) for line in lines} == told
    status, stdout, stderr = call("models", "show", "mine")
    assert (status, stdout) == (1, "")
    assert "no version of 'mine' was accepted by its check; fine-tune again, or " in stderr
    assert json.loads(call("models", "show", "mine@1")[1])["name"] == "nuclei"
    assert call("models", "export", "mine@1", tmp_path / "m.safetensors")[0] == 0
    assert call("models", "remove", "mine@1") == (0, "removed mine@1\n", "")


def test_models_list_survives_what_is_broken(call, models_folder):
    (models_folder / "broken").mkdir()
    (models_folder / "broken" / "0001.safetensors").write_bytes(b"x")
    (models_folder / "my models").mkdir()
    (models_folder / "my models" / "0001.safetensors").write_bytes(b"x")
    status, stdout, _ = call("models", "list")
    assert (status, len(stdout.splitlines())) == (0, 1)


def test_models_show_the_header_as_json(call, nuclei):
    status, stdout, _ = call("models", "show", "nuclei")
    assert status == 0
    shown = json.loads(stdout)
    assert shown["file"] == str(nuclei.path)
    assert shown["sha256"] == nuclei.sha256()
    assert shown["architecture"]["width"] == 2
    assert shown["classes"] == ["background", "cell"]


def test_models_go_out_and_come_in(call, nuclei, store, tmp_path):
    out = tmp_path / "out" / "n.safetensors"
    assert call("models", "export", "nuclei", out) == (0, f"exported to {out}\n", "")
    assert out.read_bytes() == nuclei.path.read_bytes()
    assert call("models", "export", "nuclei@1", tmp_path / "h.safetensors", "--half")[0] == 0
    half = load_model(tmp_path / "h.safetensors")[0].state_dict()
    assert len(half) == len(load_model(out)[0].state_dict())
    assert call("models", "import", out) == (0, "imported as nuclei@2\n", "")
    assert call("models", "import", out, "--name", "mine") == (0, "imported as mine@1\n", "")
    status, _, stderr = call("models", "import", tmp_path / "none.safetensors")
    assert status == 1
    assert "there is no file" in stderr
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    status, _, stderr = call("models", "import", tmp_path / "bad.safetensors")
    assert status == 1
    assert "is not a model of napari-unet" in stderr


def test_models_for_other_programs(call, nuclei, tmp_path):
    pytest.importorskip("onnx")
    for name in ("n.zip", "n.onnx"):
        out = tmp_path / name
        assert call("models", "export", "nuclei", "-o", out) == (0, f"exported to {out}\n", "")
    call("models", "export", "nuclei", tmp_path, "--format", "onnx")
    assert (tmp_path / "nuclei.onnx").read_bytes() == (tmp_path / "n.onnx").read_bytes()
    assert call("models", "import", tmp_path / "n.zip") == (0, "imported as nuclei@2\n", "")
    assert ModelStore().find("nuclei@2").sha256() == nuclei.sha256()
    status, _, stderr = call("models", "export", "nuclei", tmp_path / "x.zip", "--format", "onnx")
    assert status == 1
    assert "let it end in .onnx" in stderr
    assert call("models", "export", "nuclei")[0] == 2


def test_models_go_back_and_away(call, nuclei, add_model, store):
    add_model("nuclei", parent=nuclei.sha256())
    assert call("models", "revert", "nuclei") == (0, "back to nuclei@1\n", "")
    assert ModelStore().find("nuclei") == nuclei
    status, _, stderr = call("models", "revert", "nuclei")
    assert status == 1
    assert "nuclei@1 has no earlier version of its own" in stderr
    assert call("models", "remove", "nuclei@2") == (0, "removed nuclei@2\n", "")
    assert [v.version for v in store.versions("nuclei")] == [1]
    status, _, stderr = call("models", "remove", "nuclei@2")
    assert status == 1
    assert "there is no model 'nuclei@2'" in stderr
