import io
import os
from contextlib import contextmanager, redirect_stdout
from types import SimpleNamespace

import pytest
import tifffile

from napari_unet.cli import main
from napari_unet.cli import terminal as cli_terminal
from napari_unet.cli.terminal import follow, show_count, show_line
from napari_unet.jobs import JobFailed, JobRunner


@pytest.fixture
def runner():
    runner = JobRunner()
    yield runner
    runner.close()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    # Not sys itself, whose streams pytest changes after a fixture.
    shown = Terminal()
    monkeypatch.setattr(cli_terminal, "sys", SimpleNamespace(stderr=shown))
    return shown


def halfway(job):
    """Work that tells of its progress once somebody listens."""
    while not len(job.progressed):
        job.check()
    job.report(0.5, "segmenting", 0.25)
    return 7


def test_a_log_gets_a_line_now_and_then(runner, capsys, monkeypatch):
    assert follow(runner.submit("work", halfway)) == 7
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(cli_terminal, "_LOG_EVERY_S", 0.0)
    assert follow(runner.submit("work", halfway)) == 7
    assert capsys.readouterr() == ("", " 50 % segmenting, loss 0.250\n")


def test_a_terminal_has_one_line_that_is_empty_at_the_end(runner, terminal):
    follow(runner.submit("work", halfway))
    show_count(1, 2)
    show_count(2, 2)
    shown = terminal.getvalue().split("\r\033[K")
    assert shown == ["", " 50 % segmenting, loss 0.250", "", "1 of 2 images", ""]


def test_the_line_is_emptied_when_a_job_fails(runner, terminal):
    def fail(job):
        raise ValueError("the image is empty")

    with pytest.raises(JobFailed, match="the image is empty"):
        follow(runner.submit("work", fail))
    assert terminal.getvalue().endswith("\r\033[K")


def test_no_log_gets_what_is_for_a_terminal(capsys):
    show_line("reading")
    assert capsys.readouterr() == ("", "")


@contextmanager
def read_by_nobody():
    """Standard output is a pipe that nobody reads any more, as after `| head`."""
    read, write = os.pipe()
    os.close(read)
    # Each line is written at once: else nothing is before the process ends.
    with open(write, "w", buffering=1, encoding="utf-8") as pipe, redirect_stdout(pipe):
        yield


@pytest.mark.parametrize(
    "command", [("models", "list"), ("models", "show", "nuclei"), ("corrections", "list", "nuclei")]
)
@pytest.mark.usefixtures("nuclei", "corrections")
def test_where_nobody_reads_a_command_ends_quietly(command, capsys):
    with read_by_nobody():
        assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_so_does_the_help():
    with read_by_nobody(), pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0


@pytest.mark.usefixtures("nuclei")
def test_the_work_is_done_to_its_end_where_nobody_reads(tmp_path, blobs, capsys):
    for seed, name in enumerate("ab"):
        tifffile.imwrite(tmp_path / f"{name}.tif", blobs(seed, (48, 56))[0])
    with read_by_nobody():
        assert main(["project", "segment", str(tmp_path)]) == 0
        assert main(["project", "status", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("labels/*.tif"))) == 2
    assert "Broken pipe" not in capsys.readouterr().err
