import dataclasses
import json
import struct
import subprocess
import sys

import pytest

from napari_unet.engine.header import (
    FORMAT,
    ModelFileError,
    ModelHeader,
    parse_metadata,
    read_header,
)

FULL = ModelHeader(
    name="kerne «Ü»",
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
)


def write(path, metadata, rest: bytes = b""):
    content = json.dumps({"__metadata__": metadata}).encode()
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


def test_only_the_header_is_read(tmp_path):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata(), rest=b"\xff" * 1000)
    assert read_header(path) == FULL


def test_an_unknown_field_is_passed_over():
    assert parse_metadata(edited(mood="good")) == FULL


def test_a_newer_format_is_refused(tmp_path):
    path = write(tmp_path / "m.safetensors", edited(format=FORMAT + 1))
    sentence = f"the model has format {FORMAT + 1} and this version reads up to {FORMAT}; update"
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
        edited(format="1"),
        edited(classes=5),
        {"napari_unet": '{"format": 1, "classes": [], "trained_on": []}'},
    ],
)
def test_metadata_of_other_programs_are_refused(tmp_path, metadata):
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        read_header(write(tmp_path / "m.safetensors", metadata))


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelFileError, match="is not a model of napari-unet"):
        read_header(tmp_path)


def test_reading_headers_loads_no_torch(tmp_path):
    path = write(tmp_path / "m.safetensors", FULL.to_metadata())
    script = (
        "import sys, pathlib; from napari_unet.engine.header import read_header;"
        "read_header(pathlib.Path(sys.argv[1]));"
        "sys.exit(' '.join({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.stderr.strip() == ""
