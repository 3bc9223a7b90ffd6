import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "linux" and not os.environ.get("DISPLAY"), reason="needs a display"
)
def test_nobody_who_uses_the_dock_at_random_meets_a_fault():
    # In a process of its own: it takes over what is told of exceptions, and all settings.
    script = Path(__file__).with_name("random_use.py")
    asked = [sys.executable, "-W", "ignore", str(script), "--minutes", "0.1", "--seed", "1"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 1: " in done.stdout
