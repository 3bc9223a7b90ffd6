"""The dock in napari: the only package that knows Qt and napari.

From the top: `dock` (widgets), `projects` (a folder of images), `jobs` (between the viewer and the
service), `results` (layers that a job made), `edits` (what the user painted and confirmed),
`viewer` (napari's layers, canvas and threads). Each imports those below it.
Must not know: torch, the engine, the command line.
"""
