"""What the network and the plugin can do, measured: how good, how fast, how much memory.

Each module with a `main` is a command. Run it in the folder that holds `benchmarks`, for example
`python -m benchmarks.speed --help`. `common` holds what several of them use. `rival_cellpose` and
`rival_stardist` are scripts that `rivals` starts in environments of their own: they import nothing
of this package.
"""
