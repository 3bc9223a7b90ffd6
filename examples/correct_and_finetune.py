"""Segment an image, correct one cell in code, fine-tune, segment again.

python examples/correct_and_finetune.py
"""

import numpy as np
from skimage import data

import napari_unet

image = data.immunohistochemistry()
labels = napari_unet.segment(image, model="nuclei")
print(f"{labels.max()} cells")

# Somebody looked at this corner and found one nucleus, which the model had missed.
corrected, seen = labels.copy(), np.zeros(labels.shape, bool)
y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
corrected[((y - 212) / 9) ** 2 + ((x - 30) / 8) ** 2 <= 1] = labels.max() + 1
seen[195:230, 15:45] = True

model = napari_unet.finetune(
    image, corrected, model="nuclei", trusted=seen, seconds=20, name="my-nuclei"
)
print(f"learnt as {model.reference}: {model.header.scores}")
print(f"{napari_unet.segment(image, model=model).max()} cells now")
