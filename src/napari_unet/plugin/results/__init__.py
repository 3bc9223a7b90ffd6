"""The layers and files that come of jobs: made, carried over, restored, suggested.

Entry: `result_layers`. Must not know: running jobs, the dock.
"""
