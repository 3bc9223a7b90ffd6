"""The paper and array geometry: pure functions without I/O, threads or device choice."""
