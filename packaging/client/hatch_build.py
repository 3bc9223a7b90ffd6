"""What the client's wheel has from the sources and from the pyproject.toml of napari-unet."""

import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parents[2]
SAME = ("requires-python", "license", "authors", "keywords", "classifiers", "urls")


class Metadata(MetadataHookInterface):
    """The requirements of napari-unet without torch, and those of its extra `client`."""

    def update(self, metadata):
        """Fill in what the two have in common."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        extras = project["optional-dependencies"]
        local = [each for each in project["dependencies"] if not each.startswith("torch>")]
        metadata["dependencies"] = [*local, *extras["client"]]
        metadata["optional-dependencies"] = {
            name: extras[name] for name in ("all", "pyside", "formats")
        }
        metadata.update({name: project[name] for name in SAME})


class Files(BuildHookInterface):
    """The package as it is, but for the name of the plugin, which has to be that of the wheel."""

    def initialize(self, version, build_data):
        """Name the files."""
        self._folder = TemporaryDirectory()
        manifest = Path(self._folder.name, "napari.yaml")
        source = ROOT / "src" / "napari_unet"
        text = (source / "napari.yaml").read_text("utf-8")
        text = text.replace("name: napari-unet\n", "name: napari-unet-client\n")
        manifest.write_text(text.replace("napari-unet.", "napari-unet-client."), "utf-8")
        included = build_data["force_include"]
        included[str(manifest)] = "napari_unet/napari.yaml"
        for path in sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.name != "napari.yaml":
                included[str(path)] = f"napari_unet/{path.relative_to(source).as_posix()}"

    def finalize(self, version, build_data, artifact_path):
        """Delete the manifest, which is in the wheel now."""
        self._folder.cleanup()
