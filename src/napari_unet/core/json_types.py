"""Types of what was read from JSON, YAML or attributes of a store: values of any type by name."""

from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]
# The same where nothing is written into it.
JsonMapping = Mapping[str, Any]
