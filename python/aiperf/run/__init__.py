"""A run, top to bottom:

1. `prepare`: wait for the server, probe it, tokenizer, vocabulary, workload → plan and settings (`prepare.py`)
2. the run directory, with `run.json` before the first request (`directory.py`)
3. `drive`: the engine runs; the observer sees snapshots; Ctrl-C stops in three steps (`drive.py`)
4. `finish`: journal → `records.parquet` and JSONL, metrics → files, screen, exit code (`finish.py`)

`report` enters at 4, from the records.
"""
