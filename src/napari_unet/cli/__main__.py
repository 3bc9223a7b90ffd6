"""`python -m napari_unet.cli`."""

import sys

from napari_unet.cli.program import main

sys.exit(main())
