"""The server: people with tokens, their jobs and blobs, and the workers that do the jobs.

Entry: `start.serve`. One process answers requests (`app`) and holds no image in memory; a worker
(`worker`) is a process of its own for each device. All that was sent lies in one folder.
"""
