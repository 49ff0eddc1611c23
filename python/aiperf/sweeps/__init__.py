"""Several runs in one command: points of a sweep, repeats, searches, interleaved A/B; and the table over runs made one by one.

`study.sweep(config)` does what the options ask for; `points.load_runs(paths)` and `table.build_table(points)` work on any run
directories. `search` knows nothing of runs: it asks a probe.
"""
