"""Arrays and tensors: pure functions without files, threads, settings or a choice of device.

Here: what an image is (`arrays`, `axes`, `checks`), its intensities (`intensity`, `missing`,
`stains`), its size (`resample`), how it is cut into tiles (`tiling`), and which pairs of values
two arrays hold (`pairs`); and types of JSON (`json_types`). `cells` turns scores into cells and
compares cells, `network` is the U-Net with its loss and its augmentation.
Must not know: any other package of this program, files, Qt, napari.
"""
