import os
from dataclasses import replace

import pytest

from napari_unet.cli import main
from napari_unet.serving.client.known import KnownServers, why_silent
from napari_unet.serving.credentials import Credentials, read_credentials, write_credentials

pytest.importorskip("httpx")

LAB = Credentials("http://127.0.0.1:9", "gpu.lab.example.org", "anna", "x" * 43)


@pytest.fixture
def known(tmp_path):
    return KnownServers(tmp_path / "servers")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "anna.json"
    write_credentials(path, LAB)
    return path


def test_a_server_that_is_added_has_the_name_of_its_computer(known, file):
    assert known.names() == []
    assert known.add(file) == "gpu"
    assert known.names() == ["gpu"]
    file.unlink()
    copy = known.find("gpu")
    assert read_credentials(copy) == LAB
    if os.name == "posix":
        assert copy.stat().st_mode & 0o077 == 0


def test_a_new_token_replaces_the_old_one(known, file):
    known.add(file)
    file.unlink()
    write_credentials(file, replace(LAB, token="y" * 43))
    assert known.add(file) == "gpu"
    assert read_credentials(known.find("gpu")).token == "y" * 43


def test_two_servers_of_one_name_have_two_names(known, file):
    known.add(file)
    file.unlink()
    write_credentials(file, replace(LAB, address="http://127.0.0.1:10"))
    assert known.add(file) == "gpu-2"
    assert known.names() == ["gpu", "gpu-2"]
    assert read_credentials(known.find("gpu")) == LAB


def test_a_name_of_a_computer_names_no_file_elsewhere(known, file, tmp_path):
    file.unlink()
    write_credentials(file, replace(LAB, computer="../../evil/x"))
    name = known.add(file)
    assert known.find(name).parent == tmp_path / "servers"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.json", "servers"]


def test_a_file_that_was_not_added_can_be_named_by_its_path(known, file, tmp_path):
    assert known.find(str(file)) == file
    assert known.find(str(tmp_path / "no.json")) == tmp_path / "no.json"
    with pytest.raises(ValueError, match="there is no server 'gpu'; there is: none yet"):
        known.find("gpu")


def test_a_server_is_forgotten(known, file):
    known.add(file)
    known.remove("gpu")
    assert known.names() == []
    with pytest.raises(ValueError, match="there is no server 'gpu'"):
        known.remove("gpu")


def test_why_a_server_does_not_answer_is_a_sentence(file, tmp_path):
    assert "cannot be reached" in why_silent(file)
    assert "there is no file" in why_silent(tmp_path / "no.json")


def test_servers_on_the_command_line(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "home" / "models"))
    assert main(["servers", "add", str(file)]) == 0
    assert main(["servers", "list"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "added as gpu"
    assert told[1].split()[0] == "gpu"
    assert "cannot be reached" in told[1]
    assert main(["segment", str(file), "-o", str(tmp_path), "--server", "gpux"]) == 1
    assert "there is no server 'gpux'; there is: gpu;" in capsys.readouterr().err
    assert main(["servers", "remove", "gpu"]) == 0
    assert main(["servers", "remove", "gpu"]) == 1
