import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_unet.io.atomic import clean_once, part_of, replacing, reserve, writing_to


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
        "from napari_unet.io.atomic import replacing\n"
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


def left_behind(folder: Path, kind: str) -> Path:
    """What a process that was killed while writing leaves in a folder."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from napari_unet.io.atomic import part_of, replacing, reserve\n"
        "path = Path(sys.argv[1])\n"
        "if sys.argv[2] == 'folder':\n"
        "    part_of(path).mkdir()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if sys.argv[2] == 'reserved':\n"
        "    reserve(path)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "with replacing(path) as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder / "0001.bin"), kind])
    assert done.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    return left


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("kind", ["file", "folder", "reserved"])
def test_what_a_killed_program_left_goes_when_the_next_begins(tmp_path, kind):
    left = left_behind(tmp_path, kind)
    clean_once(tmp_path)
    assert left.exists() == (kind == "reserved")
    clean_once(tmp_path, ".bin")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_first_write_into_a_folder_cleans_it(tmp_path):
    left = left_behind(tmp_path, "file")
    with replacing(tmp_path / "other") as part:
        part.write_text("whole")
        assert not left.exists()
    assert os.listdir(tmp_path) == ["other"]


def test_what_others_write_stays(tmp_path):
    own = part_of(tmp_path / "a")
    place, pid, _ = own.name.split(".")[2].split("-")
    assert int(pid) == os.getpid()
    elsewhere = f".a.{'0' * 8}-{pid}-{'0' * 12}.part"
    alive = f".a.{place}-{os.getppid()}-{'0' * 12}.part"
    names = {own.name, elsewhere, alive, "a.part", ".a.part", f".a.{'0' * 32}.part", "a.tif"}
    for name in names:
        (tmp_path / name).write_text("somebody's")
    clean_once(tmp_path, ".tif")
    assert set(os.listdir(tmp_path)) == names
    # A day later nobody of ours writes any more; what has no name of ours is never touched.
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    clean_once(tmp_path, ".other")
    assert set(os.listdir(tmp_path)) == names - {own.name, elsewhere, alive}


def test_a_name_is_reserved_once(tmp_path):
    reserve(tmp_path / "a")
    with pytest.raises(FileExistsError):
        reserve(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]
    with replacing(tmp_path / "a") as part:
        part.write_text("content")
    assert (tmp_path / "a").read_text() == "content"


def test_a_name_is_reserved_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_a_name_is_reserved_once(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 40 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "test", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def write_bytes(part):
    part.write_bytes(bytes(100_000))


def write_array(part):
    np.zeros(100_000, np.uint8).tofile(part)


def copy_other(part):
    (part.parent.parent / "source").write_bytes(bytes(100_000))
    shutil.copyfile(part.parent.parent / "source", part)


@pytest.mark.parametrize("write", [write_bytes, write_array, copy_other])
def test_a_full_disk_names_what_was_to_be_written(small_disk, write):
    (small_disk / "file").write_text("old")
    with (
        pytest.raises(OSError, match="No space left on device") as refusal,
        replacing(small_disk / "file") as part,
    ):
        write(part)
    assert refusal.value.errno == errno.ENOSPC
    assert refusal.value.filename == str(small_disk / "file")
    assert os.listdir(small_disk) == ["file"]
    assert (small_disk / "file").read_text() == "old"


def test_what_could_not_be_read_is_named_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal, replacing(tmp_path / "file") as part:
        shutil.copyfile(tmp_path / "gone", part)
    assert refusal.value.filename == str(tmp_path / "gone")


def test_a_full_disk_that_names_nothing_gets_a_name(tmp_path):
    with pytest.raises(OSError, match="full: '/there'"), writing_to(Path("/there")):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(OSError, match="other") as refusal, writing_to(Path("/there")):
        raise OSError(errno.EIO, "other")
    assert refusal.value.filename is None
