"""One job at a time between the viewer and the service.

Entry: `controller.Controller`. `scope` says what of an image is asked for.
Must not know: the widgets of the dock.
"""
