"""The experiments of the 2015 paper: `python -m benchmarks.paper.experiments --help`."""
