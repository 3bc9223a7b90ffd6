import dataclasses
import json
import os

import pytest

from napari_unet.serving.credentials import (
    Credentials,
    CredentialsError,
    is_loopback,
    read_credentials,
    write_credentials,
)

ANNA = Credentials("https://gpu:8786", "gpu", "anna", "x" * 43)


@pytest.fixture
def file(tmp_path):
    write_credentials(tmp_path / "c.json", ANNA)
    return tmp_path / "c.json"


def changed(file, **content):
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    return file


def test_credentials_come_back_and_are_secret(file):
    assert read_credentials(file) == ANNA
    assert file.stat().st_mode & 0o077 == 0
    assert ANNA.token not in repr(ANNA)


@pytest.mark.skipif(os.name != "posix", reason="rights of files as Unix has them")
def test_a_file_that_others_can_read(file):
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match=r"can be read by others.*chmod 600"):
        read_credentials(file)


@pytest.mark.parametrize(
    "content",
    [
        {"format": "x"}, {"address": "gpu:8786"}, {"address": "ftp://gpu"}, {"more": 1},
        {"expires": "soon"}, {"certificate": "none"}, {"token": "ä"},
        {"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    ],
)  # fmt: skip
def test_what_are_no_credentials(file, content):
    with pytest.raises(CredentialsError, match="does not say how to reach a server"):
        read_credentials(changed(file, **content))


def test_credentials_that_have_ended(file):
    with pytest.raises(CredentialsError, match=r"ended on 2020-01-01.*add-user"):
        read_credentials(changed(file, expires="2020-01-01T00:00:00+00:00"))


def test_nothing_is_sent_in_the_clear_to_another_computer(file):
    with pytest.raises(CredentialsError, match="could be read on the way"):
        read_credentials(changed(file, address="http://gpu:8786"))
    here = dataclasses.replace(ANNA, address="http://127.0.0.1:8786")
    assert read_credentials(changed(file, address=here.address)) == here


@pytest.mark.parametrize(
    ("host", "here"), [("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_what_is_this_computer(host, here):
    assert is_loopback(host) is here
