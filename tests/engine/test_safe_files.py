import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_unet.engine.safe_files import replacing


def test_a_new_file_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "folder" / "new" / "file.txt"
    with replacing(path) as part:
        part.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert os.listdir(path.parent) == ["file.txt"]


def test_an_old_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write():
        with replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert path.read_text() == "first"  # the outer block ends last


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_program_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from napari_unet.engine.safe_files import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_content_is_on_the_disk_before_the_name_changes(monkeypatch, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    events = []
    sync, replace = os.fsync, Path.replace

    def note_sync(descriptor):
        events.append(("sync", path.read_bytes()))
        sync(descriptor)

    def note_replace(part, target):
        assert part.read_bytes() == b"new"
        events.append(("replace", path.read_bytes()))
        return replace(part, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    with replacing(path) as part:
        part.write_bytes(b"new")
    assert events[:2] == [("sync", b"old"), ("replace", b"old")]
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are of POSIX")
def test_a_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "file") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
