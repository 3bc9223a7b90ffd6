"""The state of a source of random numbers, in a form that JSON can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Random = np.random.Generator | torch.Generator


def state_of(source: Random) -> object:
    """Return the state: a table for NumPy, hexadecimal digits for torch."""
    if isinstance(source, torch.Generator):
        return source.get_state().numpy().tobytes().hex()
    return source.bit_generator.state


def set_state(source: Random, state: Any) -> None:
    """Have a source draw what the one with this state would draw.

    Raises
    ------
    ValueError, TypeError, KeyError, RuntimeError
        If it is not the state of such a source.
    """
    if isinstance(source, torch.Generator):
        content = bytearray.fromhex(state)
        source.set_state(torch.frombuffer(content, dtype=torch.uint8))
    else:
        source.bit_generator.state = state
