"""A folder of images as a project: which image is how far, its labels and what was corrected.

Words: a *project* is an ordinary folder with a small json file; an image is *new*, *segmented*,
*corrected* or *done*; *the rest* is what is neither corrected nor done; *held-out images* judge and
never teach; the *doubt* of an image says how unsure the model is of it.
Entry: `project.Project`. `rest` segments the rest, `scoring` scores models on held-out images,
`table` measures all cells, `classes` keeps what they are, `joining` joins two projects.
Must not know: Qt, napari, the terminal.
"""
