"""Writes the recipe for conda-forge with the version and the hash of an sdist.

python packaging/conda_recipe.py dist/napari_unet-0.1.0.tar.gz -o recipe.yaml

`packaging/recipe.yaml` holds zeros where the hash belongs: the hash of an archive cannot be in it.
The workflow `release` calls this, and keeps the result among its artifacts.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

TEMPLATE = Path(__file__).with_name("recipe.yaml")
NO_HASH = "0" * 64


def filled(recipe: str, sdist: Path) -> str:
    """Return the recipe with the version and the hash of an sdist; ValueError if it is none."""
    named = re.fullmatch(r"napari_unet-(.+)\.tar\.gz", sdist.name)
    if named is None:
        raise ValueError(f"{sdist} is no sdist; give dist/napari_unet-VERSION.tar.gz")
    recipe, versions = re.subn(r'(?m)^  version: ".*"$', f'  version: "{named[1]}"', recipe)
    found = recipe.count(NO_HASH)
    if (versions, found) != (1, 1):
        raise ValueError(
            f"{TEMPLATE} has {versions} versions and {found} empty hashes; it needs 1 of each"
        )
    return recipe.replace(NO_HASH, hashlib.sha256(sdist.read_bytes()).hexdigest())


def main() -> int:
    """Read the arguments, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sdist", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        recipe = filled(TEMPLATE.read_text(encoding="utf-8"), options.sdist)
    except (ValueError, OSError) as error:
        print(f"conda_recipe: {error}", file=sys.stderr)
        return 1
    options.out.write_text(recipe, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
