"""The end of the process while a job is in the middle of something that takes long."""

from __future__ import annotations

import logging
import os
import sys
from threading import Thread

# After the time that it had when the viewer was closed.
_LAST_PATIENCE_S = 0.5


def end_despite(thread: Thread) -> None:
    """End this process now, with exit status 0, if a cancelled job is still at work.

    Python would stop its thread where it is. In the middle of torch that aborts the process
    ("terminate called without an active exception"). Nothing is lost: strokes are saved, and files
    appear whole or not at all.
    """
    thread.join(_LAST_PATIENCE_S)
    if thread.is_alive():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
