"""Files of images and labels; nothing about models or corrections.

Entry: `images.read_image` and `images.write_labels`; `image_source.ImageSource` is what a file
holds: data, axes, sizes, channel names. `atomic` writes files that appear whole or not at all.
Must not know: torch, models, jobs, Qt, napari.
"""
