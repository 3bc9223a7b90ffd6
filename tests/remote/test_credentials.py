import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from napari_unet.remote import credentials as module
from napari_unet.remote.credentials import (
    CredentialsError,
    make_credentials,
    read_credentials,
    require_cluster,
    write_credentials,
)

pytest.importorskip("cryptography")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "server.json"
    write_credentials(path, make_credentials("tls://127.0.0.1:8786", "gpu"))
    return path


def test_what_is_written_is_read(tmp_path):
    made = make_credentials("tls://127.0.0.1:8786", "gpu")
    write_credentials(tmp_path / "a" / "c.json", made)
    assert read_credentials(tmp_path / "a" / "c.json") == made


@pytest.mark.skipif(os.name != "posix", reason="modes are for POSIX")
def test_nobody_else_may_read_it(file):
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(CredentialsError, match=r"can be read by others.*chmod 600"):
        read_credentials(file)


def test_the_key_is_not_shown(file):
    found = read_credentials(file)
    assert "PRIVATE KEY" in found.key
    assert "PRIVATE" not in repr(found)


def test_each_has_another_key():
    made = [make_credentials("tls://127.0.0.1:8786", "gpu") for _ in range(2)]
    assert made[0].key != made[1].key


def test_both_sides_accept_them_strictly(file):
    """With the strict checks that are the default from Python 3.13 on."""
    security = read_credentials(file).security()
    listening = security.get_listen_args("scheduler")["ssl_context"]
    calling = security.get_connection_args("client")["ssl_context"]
    for context in (listening, calling):
        assert context.verify_mode is ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = listening.wrap_bio(ours, theirs, server_side=True)
    client = calling.wrap_bio(theirs, ours)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert server.getpeercert(binary_form=True) == client.getpeercert(binary_form=True) != b""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "other"}', "\0"])
def test_another_file_is_no_credentials(tmp_path, text):
    path = tmp_path / "c.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(CredentialsError, match="does not say how to reach a server"):
        read_credentials(path)


def test_credentials_that_lack_something(file):
    content = json.loads(file.read_text())
    for name in content:
        file.write_text(json.dumps({k: v for k, v in content.items() if k != name}))
        with pytest.raises(CredentialsError, match="does not say how to reach a server"):
            read_credentials(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(CredentialsError, match=r"there is no file .*nothing\.json"):
        read_credentials(tmp_path / "nothing.json")
    with pytest.raises(CredentialsError):
        read_credentials(tmp_path)


def test_credentials_end_after_a_year(file):
    content = json.loads(file.read_text())
    ends = datetime.fromisoformat(content["expires"])
    assert timedelta(360) < ends - datetime.now(UTC) < timedelta(366)
    content["expires"] = (datetime.now(UTC) - timedelta(1)).isoformat()
    file.write_text(json.dumps(content))
    with pytest.raises(CredentialsError, match="ended on"):
        read_credentials(file)


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'napari-unet\[cluster\]'"):
        require_cluster()


def test_looking_at_a_file_does_not_import_dask(file):
    program = (
        "import sys, pathlib; from napari_unet.service.segmentation import SegmentationService; "
        f"s = SegmentationService().servers; s.use(pathlib.Path({str(file)!r})); s.pending(); "
        "print(sorted({'distributed', 'dask', 'cryptography', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
