"""The segmentation of images larger than memory: from zarr to OME-Zarr, in small tasks.

A job that was stopped can be resumed. Entry: `job.segment_volume`. Words: a *task* is one piece of
the work, and any process that sees the files can run it; an *executor* runs tasks, in this thread
or on a Dask cluster.
Must not know: corrections, training, servers, Qt, napari.
"""
