import io
from types import SimpleNamespace

import pytest

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
