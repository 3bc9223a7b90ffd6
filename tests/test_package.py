import ast
import hashlib
import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import napari_unet

PROJECT = Path(__file__).parents[1]
HEAVY = {"torch", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "vispy"}
HEAVY |= {
    "cryptography",
    "dask",
    "httpx",
    "starlette",
    "uvicorn",
    "distributed",
    "liffile",
    "nd2",
    "pylibCZIrw",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "import napari_unet",
        "import napari_unet.cli",
        "import napari_unet; napari_unet.segment, napari_unet.finetune, napari_unet.PredictConfig",
        "import napari_unet.service.segmentation as s; s.SegmentationService().close()",
        "import napari_unet.io.images, napari_unet.service.evaluation",
        "import napari_unet; napari_unet.load_model, napari_unet.export_labels, dir(napari_unet)",
    ],
)
def test_importing_loads_neither_torch_nor_a_window(program):
    found = f"import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{found}"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_public_names_are_there():
    from napari_unet import api, config

    assert napari_unet.segment is api.segment
    assert napari_unet.finetune is api.finetune
    assert napari_unet.measure is api.measure
    assert napari_unet.load_model is api.load_model
    assert napari_unet.export_labels is api.export_labels
    assert napari_unet.read_labels is api.read_labels
    assert napari_unet.PredictConfig is config.PredictConfig
    assert napari_unet.FinetuneConfig is config.FinetuneConfig
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'napari_unet' has no attribute 'segmnet'"):
        napari_unet.segmnet()


def test_the_version_is_that_of_the_installation():
    assert napari_unet.__version__ == importlib.metadata.version("napari-unet")
    assert re.match(r"\d+\.\d+", napari_unet.__version__)


def test_links_of_the_readme_work_on_pypi():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    ours = "https://github.com/napari-unet/napari-unet/blob/main/"
    pages = [link.removeprefix(ours).split("#")[0] for link in links if link.startswith(ours)]
    assert [page for page in pages if not (PROJECT / page).exists()] == []
    # Pictures need an address that gives the file itself.
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    raw = "https://raw.githubusercontent.com/napari-unet/napari-unet/main/"
    assert pictures
    assert [one for one in pictures if not (PROJECT / one.removeprefix(raw)).is_file()] == []


def test_the_manifest_names_its_icon_and_a_release_its_links():
    manifest = (PROJECT / "src" / "napari_unet" / "napari.yaml").read_text(encoding="utf-8")
    package, icon = re.search(r"^icon: (\w+):(.+)$", manifest, re.M).groups()
    assert "<svg" in importlib.resources.files(package).joinpath(icon).read_text("utf-8")
    with (PROJECT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    urls = settings["project"]["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issue Tracker"} <= set(urls)
    assert (
        settings["project"]["optional-dependencies"]["docs"]
        == settings["dependency-groups"]["docs"]
    )


def test_the_recipe_of_conda_needs_what_the_package_needs():
    recipe = (PROJECT / "packaging" / "recipe.yaml").read_text(encoding="utf-8")
    run = re.search(r"  run:\n((?:    - .*\n)+)", recipe).group(1)
    there = {line.strip("- ").replace(" ", "") for line in run.splitlines()}
    with (PROJECT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    assert there - {"python>=${{python_min}}"} == {re.sub("^torch>", "pytorch>", n) for n in needed}


def test_a_release_fills_in_the_recipe_of_conda(tmp_path):
    sdist, out = tmp_path / "napari_unet-1.2.3.tar.gz", tmp_path / "recipe.yaml"
    sdist.write_bytes(b"an archive")
    script = [sys.executable, str(PROJECT / "packaging" / "conda_recipe.py")]
    subprocess.run([*script, str(sdist), "-o", str(out)], check=True)
    recipe = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == "1.2.3"
    assert recipe["source"]["sha256"] == hashlib.sha256(b"an archive").hexdigest()
    # The keys of rattler-build's format.
    assert list(recipe) == [
        *("schema_version", "context", "package", "source", "build", "requirements"),
        *("tests", "about"),
    ]
    assert recipe["schema_version"] == 1
    assert recipe["package"]["version"] == "${{ version }}"
    assert all(isinstance(name, str) for part in recipe["requirements"].values() for name in part)
    wheel = [*script, str(tmp_path / "x.whl"), "-o", str(out)]
    done = subprocess.run(wheel, capture_output=True, text=True, check=False)
    assert (done.returncode, "is no sdist; give dist/" in done.stderr) == (1, True)


SOURCES = sorted((PROJECT / "src" / "napari_unet").rglob("*.py"))
# What a distribution is called, where its module has another name.
CALLED = {"skimage": "scikit-image", "yaml": "pyyaml"}
# Modules that are loaded when a server starts, and by nothing else.
ANSWERS = ("app.py", "guard.py", "openapi.py")


def imports_of(tree):
    """Other packages that a module imports: those at its top, and those inside functions."""
    at_top, inside = set(), set()

    def look(node, into):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                look(child, inside)
            elif isinstance(child, ast.Import):
                into.update(alias.name.split(".")[0] for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                into.add(child.module.split(".")[0])
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                look(child, inside if function else into)

    look(tree, at_top)
    ours = {*sys.stdlib_module_names, "napari_unet"}
    return at_top - ours, inside - ours


@pytest.mark.slow
def test_what_is_imported_is_declared():
    """What is imported inside functions may come with an extra."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    required = project["dependencies"]
    optional = [*required]
    for extra in ("bioimageio", "client", "cluster", "formats", "server"):
        optional += project["optional-dependencies"][extra]
    declared = [
        {re.match(r"[\w.-]+", line)[0].lower() for line in lines} for lines in (required, optional)
    ]
    missing = set()
    for path in SOURCES:
        at_top, inside = imports_of(ast.parse(path.read_text()))
        if path.name in ANSWERS:
            at_top, inside = at_top - {"starlette", "pydantic"}, inside | at_top
        for names, known in zip((at_top, inside), declared, strict=True):
            missing |= {(path.name, n) for n in names if CALLED.get(n, n).lower() not in known}
    assert missing == set()


def test_imports_are_found():
    tree = ast.parse(
        "import a.b\nfrom c.d import e\nimport os\nfrom napari_unet import f\n"
        "if TYPE_CHECKING:\n    import g\ndef h():\n    from i import j"
    )
    assert imports_of(tree) == ({"a", "c"}, {"g", "i"})
