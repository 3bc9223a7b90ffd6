"""Builds sdist and wheel into `dist`, and checks them and the repository as others will.

It needs the packages that the environment `package` of tox.ini names: `tox -e package`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str) -> None:
    """Run a Python module with its arguments; a failure ends this program."""
    print("package:", *command, flush=True)
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)


def main() -> None:
    """Build, then check."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run("build", "--outdir", "dist")
    run("build", "--wheel", "--outdir", "dist", "packaging/client")
    built = sorted(str(path) for path in (ROOT / "dist").iterdir())
    wheel = next(path for path in built if "napari_unet-" in path and path.endswith(".whl"))
    run("twine", "check", "--strict", *built)
    run("check_wheel_contents", wheel)
    # The links, the version, the classifiers: 10 of 10.
    run("pyroma", "--min", "10", ".")
    run("npe2", "validate", "src/napari_unet/napari.yaml")
    run("repo_review", ".")
    workflows = sorted(str(path) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    for schema, files in (
        ("github-workflows", workflows),
        ("dependabot", [".github/dependabot.yml"]),
        ("readthedocs", [".readthedocs.yaml"]),
    ):
        run("check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


if __name__ == "__main__":
    main()
