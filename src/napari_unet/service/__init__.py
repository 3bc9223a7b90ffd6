"""The service that dock, command line and Python call.

Entry: `segmentation.SegmentationService`. `backend_choice` chooses where jobs run, `files` segments
many files, `evaluation` scores labels against the truth.
Must not know: Qt, napari, the terminal.
"""
