"""What the user painted and confirmed on Labels layers.

Words: *seen* is where the user has looked: corrected or confirmed.
Entry: `tracker.EditTracker` (one layer), `registry` (all layers of a viewer), `autosave`.
Must not know: jobs, the dock.
"""
