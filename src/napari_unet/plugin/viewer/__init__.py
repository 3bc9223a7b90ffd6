"""Between napari and arrays: layers, their alignment, the canvas, the two threads.

Entry: `layers`. Must not know: what was painted, results, jobs, the dock.
"""
