import dataclasses
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc

import pytest

from napari_unet.models import header
from napari_unet.models.header import (
    FORMAT,
    ModelFileError,
    ModelHeader,
    parse_metadata,
    read_header,
)

FULL = ModelHeader(
    name="kerne-2",
    architecture={"depth": 3, "width": 16, "in_channels": 2, "n_classes": 2, "dropout": 0.25},
    classes=("background", "nucleus"),
    normalisation={"low": 0.5, "high": 99.9, "clip": 2.0},
    postprocess={"threshold": 0.4, "seed_threshold": 0.8, "gap_px": 1},
    pixel_size_um=0.325,
    diameter_px=31.5,
    zoom=0.75,
    anisotropy=2.5,
    parent="ab" * 32,
    trained_on=("dsb2018, CC0", "two corrected cells"),
    settings={"steps": 10, "augment": {"flip": True}},
    corrections={"leaf-0002": "cd" * 32},
    seed=12345,
    steps=678,
    plans=((9, 40), (18, 53)),
    scores={"ap50": 0.875, "ap50 before": 0.5},
    created="2024-05-06T07:08:09+00:00",
    licence="CC-BY-4.0",
    replay="kerne",
)


def write(path, metadata, rest: bytes = b"", weights=None):
    content = json.dumps({"__metadata__": metadata, **(weights or {})}).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + rest)
    return path


def edited(**changes):
    content = json.loads(FULL.to_metadata()["napari_unet"])
    return {"napari_unet": json.dumps({**content, **changes})}


def test_a_header_survives_the_round_trip():
    assert parse_metadata(FULL.to_metadata()) == FULL


def test_every_field_of_the_example_differs_from_its_default():
    for field in dataclasses.fields(ModelHeader):
        if field.default is not dataclasses.MISSING and field.name != "format":
            assert getattr(FULL, field.name) != field.default


def test_defaults_survive_the_round_trip():
    header = ModelHeader(name="m", architecture={"depth": 1})
    assert parse_metadata(header.to_metadata()) == header


def test_a_header_is_read_from_its_file(tmp_path):
    assert read_header(write(tmp_path / "m.safetensors", FULL.to_metadata())) == FULL


def test_a_header_is_read_again_only_where_its_file_has_changed(tmp_path, monkeypatch):
    path, opened = tmp_path / "m.safetensors", []
    monkeypatch.setattr(header, "_header_of", lambda path: opened.append(path) or len(opened))
    path.write_bytes(b"old")
    # What has just changed may change again within the same moment.
    assert [read_header(path), read_header(path)] == [1, 2]
    clock = time.time_ns()
    monkeypatch.setattr(header.time, "time_ns", lambda: clock + 10**10)
    assert [read_header(path), read_header(path)] == [3, 3]
    path.write_bytes(b"newer")
    assert read_header(path) == 4
    path.unlink()
    assert [read_header(path), read_header(path)] == [5, 6]


def test_only_the_header_is_read(tmp_path):
    weights = {"head": {"dtype": "F32", "shape": [250], "data_offsets": [0, 1000]}}
    path = write(tmp_path / "m.safetensors", FULL.to_metadata(), b"\xff" * 1000, weights)
    assert read_header(path) == FULL


def test_an_unknown_field_is_passed_over():
    assert parse_metadata(edited(mood="good")) == FULL


def test_a_newer_format_is_refused(tmp_path):
    path = write(tmp_path / "m.safetensors", edited(format=FORMAT + 1))
    sentence = (
        f"m.safetensors: the model has format {FORMAT + 1} and this version reads up to {FORMAT}"
    )
    with pytest.raises(ModelFileError, match=sentence):
        read_header(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*gone.safetensors; give the path"):
        read_header(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 50) + b'{"__metadata__": {"napari_unet": "',
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 20) + b'{"__metadata__": {}}',
        struct.pack("<Q", 22) + b'{"__metadata__": null}',
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07builtin",
    ],
)
def test_other_files_are_refused_with_a_sentence(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        ModelFileError, match=r"m.safetensors is not a model of napari-unet; give a"
    ):
        read_header(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "pt"},
        {"napari_unet": "no json"},
        {"napari_unet": "[]"},
        {"napari_unet": "{}"},
        {"napari_unet": 5},
    ],
)
def test_metadata_of_other_programs_are_refused(tmp_path, metadata):
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        read_header(write(tmp_path / "m.safetensors", metadata))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "1"}, "its entry format is '1', and should be a whole number from 1 to"),
        ({"name": 5}, "its entry name is 5, and should be up to 100 letters"),
        ({"name": "../x"}, "its entry name is '../x', and"),
        ({"name": "C:\\x"}, "its entry name is"),
        ({"name": "CON"}, "its entry name is 'CON'"),
        ({"name": "a\0b"}, r"its entry name is 'a\x00b'"),
        ({"name": "x" * 300}, "its entry name is 'xxxx"),
        ({"name": None}, "its entry name is None"),
        ({"architecture": []}, "its entry architecture is [], and should be a table"),
        (
            {"architecture": {"depth": 10**6}},
            "its entry architecture.depth is 1000000, and should be a",
        ),
        ({"architecture": {"depth": True}}, "its entry architecture.depth is True"),
        ({"architecture": {"width": 10**12}}, "its entry architecture.width is 1000000000000"),
        ({"architecture": {"in_channels": 1000}}, "its entry architecture.in_channels is 1000"),
        ({"architecture": {"dropout": "much"}}, "its entry architecture.dropout is 'much'"),
        (
            {"architecture": {"distance": 1}},
            "its entry architecture.distance is 1, and should be true",
        ),
        ({"architecture": {"shape": "round"}}, "its entry architecture has 'shape' in it, and"),
        ({"architecture": {"depth": 2, "z_depth": 3}}, "its entry architecture.z_depth is 3, and"),
        ({"classes": 5}, "its entry classes is 5, and should be a list of 2 or more, each a"),
        ({"classes": "background"}, "its entry classes is 'background'"),
        ({"classes": ["background"]}, "its entry classes is ['background']"),
        ({"classes": ["background", "a", "b"]}, "its entry classes names 3, and should name 2"),
        ({"classes": ["background", "\x1b[2J"]}, "its entry classes is"),
        ({"zoom": 0}, "its entry zoom is 0, and should be a number from 0.01 to 16"),
        ({"zoom": -1}, "its entry zoom is -1,"),
        ({"zoom": 1e9}, "its entry zoom is 1000000000.0,"),
        ({"zoom": 1e-9}, "its entry zoom is 1e-09,"),
        ({"zoom": "a"}, "its entry zoom is 'a',"),
        ({"zoom": float("nan")}, "its entry zoom is nan,"),
        ({"zoom": float("inf")}, "its entry zoom is inf,"),
        ({"zoom": True}, "its entry zoom is True,"),
        ({"zoom": None}, "its entry zoom is None,"),
        ({"diameter_px": -3}, "its entry diameter_px is -3,"),
        ({"pixel_size_um": 0}, "its entry pixel_size_um is 0,"),
        ({"anisotropy": float("nan")}, "its entry anisotropy is nan,"),
        (
            {"normalisation": {"low": "a"}},
            "its entry normalisation.low is 'a', and should be a number",
        ),
        (
            {"normalisation": {"x": 1}},
            "its entry normalisation has 'x' in it, and should have none",
        ),
        (
            {"normalisation": {"low": 150}},
            "its entry normalisation.low is 150, and should be a number",
        ),
        (
            {"normalisation": {"low": 60, "high": 40}},
            "its entry normalisation.low is 60, and should be b",
        ),
        ({"normalisation": [1]}, "its entry normalisation is [1], and should be a table"),
        (
            {"postprocess": {"x": 1}},
            "its entry postprocess has 'x' in it, and should have none but",
        ),
        ({"postprocess": {"threshold": "high"}}, "its entry postprocess.threshold is 'high',"),
        ({"postprocess": {"threshold": -5}}, "its entry postprocess.threshold is -5,"),
        ({"postprocess": {"threshold": None}}, "its entry postprocess.threshold is None,"),
        ({"postprocess": {"radius_px": None}}, "its entry postprocess.radius_px is None,"),
        ({"postprocess": {"gap_px": 10**6}}, "its entry postprocess.gap_px is 1000000,"),
        ({"parent": "../x"}, "its entry parent is '../x', and should be 64 hexadecimal digits"),
        ({"trained_on": "cells"}, "its entry trained_on is 'cells', and should be a list"),
        ({"trained_on": ["\ud800"]}, "its entry trained_on is"),
        ({"settings": []}, "its entry settings is [], and should be a table"),
        ({"settings": {"a": {"b": {"c": 1}}}}, "its entry settings is"),
        ({"corrections": {"a": "b"}}, "its entry corrections is {'a': 'b'}"),
        ({"seed": -1}, "its entry seed is -1,"),
        ({"steps": 1.5}, "its entry steps is 1.5,"),
        ({"plans": [1]}, "its entry plans is [1],"),
        ({"plans": [[1, 2, 3]]}, "its entry plans is"),
        ({"scores": [1]}, "its entry scores is [1],"),
        ({"scores": {"ap50": float("nan")}}, "its entry scores is {'ap50': nan},"),
        ({"created": 5}, "its entry created is 5,"),
        ({"licence": None}, "its entry licence is None,"),
    ],
)
def test_an_entry_that_cannot_be_is_named(tmp_path, changes, words):
    path = write(tmp_path / "m.safetensors", edited(**changes))
    with pytest.raises(ModelFileError) as refusal:
        read_header(path)
    told = str(refusal.value)
    assert told.startswith(f"{path} is broken: {words}")
    assert told.endswith("; take another copy")
    assert len(told) < 400 + len(str(path))
    assert told.isprintable()


@pytest.mark.parametrize("entry", ["name", "format", "architecture"])
def test_an_entry_that_is_missing_is_named(tmp_path, entry):
    content = json.loads(FULL.to_metadata()["napari_unet"])
    del content[entry]
    path = write(tmp_path / "m.safetensors", {"napari_unet": json.dumps(content)})
    with pytest.raises(ModelFileError, match=r"is broken: its entry \w+ is missing|is not a model"):
        read_header(path)


def test_every_entry_has_a_rule():
    from napari_unet.core.cells.blockwise import Decoding
    from napari_unet.core.intensity import Normalisation
    from napari_unet.core.network.unet import UNetConfig
    from napari_unet.models import header_rules

    def names(kind):
        return {field.name for field in dataclasses.fields(kind)}

    assert set(header_rules._TOP) >= names(ModelHeader)
    assert set(header_rules._TABLES["architecture"]) == names(UNetConfig)
    assert set(header_rules._TABLES["normalisation"]) == names(Normalisation)
    assert set(header_rules._TABLES["postprocess"]) == names(Decoding)


def weights(**changes):
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"a": weights(dtype="I32")}, "its weights 'a' are 'I32', and should be one of F16, BF16"),
        ({"a": weights(shape=[2, 3])}, "its weights 'a' are 2 x 3, which does not fit 16 bytes"),
        ({"a": weights(shape=[-2, -2])}, "its weights 'a' have a shape or a place that cannot be"),
        ({"a": weights(shape=[2.0, 2])}, "its weights 'a' have a shape or a place that cannot be"),
        ({"a": weights(shape=[2**47] * 9)}, "its weights 'a' have a shape or a place that cannot"),
        ({"a": weights(), "b": weights()}, "its weights overlap, or there is something between"),
        ({"a": weights(data_offsets=[16, 32])}, "its weights overlap, or there is something"),
        ({"a": weights(data_offsets=[0, 16, 16])}, "its weights 'a' have a shape or a place"),
        ({"a": weights(data_offsets=[0])}, "its weights 'a' have a shape or a place"),
        ({}, "16 bytes of weights are in it, and 0 should be"),
        ({"a": weights(), "b": weights(data_offsets=[16, 32])}, "16 bytes of weights are in it, a"),
    ],
)
def test_a_table_of_weights_that_cannot_be_is_told(tmp_path, table, words):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata(), b"\0" * 16, table)
    with pytest.raises(ModelFileError) as refusal:
        read_header(path)
    assert str(refusal.value).startswith(f"{path} is broken: {words}")


@pytest.mark.parametrize("table", [{"a": 5}, {"a": {}}, {"a": weights(dtype=[])}])
def test_a_table_of_no_weights_is_no_model(tmp_path, table):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata(), b"\0" * 16, table)
    with pytest.raises(ModelFileError, match=r"m.safetensors is"):
        read_header(path)


def test_what_is_there_twice_is_refused(tmp_path):
    ours = FULL.to_metadata()["napari_unet"]
    for inner, outer in ((ours[:-1] + ', "zoom": 2}', ""), (ours, ', "a": {}, "a": {}')):
        text = f'{{"__metadata__": {json.dumps({"napari_unet": inner})}{outer}}}'.encode()
        path = tmp_path / "m.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(ModelFileError, match=r"its entry '(zoom|a)' is there twice, and shou"):
            read_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="is not a model of napari-unet: it is no file; give"):
        read_header(tmp_path / "m.safetensors")


def test_a_file_is_as_long_as_its_header_says(tmp_path):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata())
    os.truncate(path, 6 << 30)  # takes no room on the disk
    with pytest.raises(ModelFileError, match="bytes of weights are in it, and 0 should be"):
        read_header(path)


def test_a_long_header_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    text = b'{"a":[' + b"{}," * 2_000_000 + b"{}]}"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        read_header(tmp_path)


def test_reading_headers_loads_no_torch(tmp_path):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata())
    script = (
        "import sys, pathlib; from napari_unet.models.header import read_header;"
        "read_header(pathlib.Path(sys.argv[1]));"
        "sys.exit(' '.join({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.stderr.strip() == ""
