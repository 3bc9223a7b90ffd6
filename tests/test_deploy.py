"""The files in `deploy`, read by parsers: no container is built, and no service is started."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from napari_unet.cli.program import _parser

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT, DOCKERFILE = DEPLOY / "napari-unet.service", DEPLOY / "Dockerfile"


def joined(path):
    """The lines without comments; a line that ends with a backslash goes on in the next."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture
def unit():
    found, section = {}, ""
    for line in joined(UNIT):
        if line.startswith("["):
            section = line.strip("[]")
        else:
            name, equals, value = line.partition("=")
            assert equals, line
            assert (section, name) not in found, f"{name} is given twice"
            found[section, name] = value
    return found


@pytest.fixture
def instructions():
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined(DOCKERFILE)]


def test_the_service_starts_what_there_is(unit):
    _, *call = shlex.split(unit["Service", "ExecStart"])
    options = _parser().parse_args(call)
    assert unit["Service", "User"] not in ("", "root")
    written = Path(unit["Service", "ReadWritePaths"])
    assert options.folder.is_relative_to(written)
    assert options.credentials.is_relative_to(written)


def test_systemd_takes_the_service(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    # The program is not installed there.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/napari-unet/bin/napari-unet", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, unit.name in done.stderr) == (0, False), done.stderr


def test_the_container_starts_what_there_is(instructions):
    (command,) = (json.loads(text) for name, text in instructions if name == "CMD")
    options = _parser().parse_args(command[1:])
    (volume,) = (text for name, text in instructions if name == "VOLUME")
    (port,) = (text for name, text in instructions if name == "EXPOSE")
    assert options.folder.is_relative_to(volume)
    assert options.credentials.is_relative_to(volume)
    assert (options.host, options.port) == ("0.0.0.0", int(port))


def test_the_container_is_as_linters_want_it(instructions):
    names = [name for name, _ in instructions]
    known = ["FROM", "ARG", "RUN", "ENV", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"]
    assert [name for name in names if name not in known] == []
    image = next(text for name, text in instructions if name == "FROM")
    assert re.fullmatch(r"[a-z]+:[0-9][\w.-]*", image), "the base image has a version"
    users = [text for name, text in instructions if name == "USER"]
    assert users[-1] != "root"
    assert names.index("USER") > names.index("RUN")
    assert names.index("USER") < names.index("CMD")
    for name, text in instructions:
        if name == "RUN" and "pip install" in text:
            assert "--no-cache-dir" in text
        assert name != "RUN" or "sudo" not in text
    given = {text.partition("=")[0] for name, text in instructions if name in ("ARG", "ENV")}
    for name, text in instructions:
        assert set(re.findall(r"\$\{?(\w+)", text)) <= given, (name, text)
    for name, text in instructions:
        if name == "COPY":
            source, _ = text.split()
            assert (DEPLOY.parent / source).exists()


def test_the_check_of_the_container_is_python(instructions):
    (check,) = (text for name, text in instructions if name == "HEALTHCHECK")
    words = shlex.split(check.partition("CMD ")[2])
    assert words[:2] == ["python", "-c"]
    compile(words[2], "HEALTHCHECK", "exec")
