"""What is worth showing while the load runs, and who else wants it: the model of the live views (`model.py`), numbers for
Prometheus and scripts, the live page, sinks. All of it reads the engine's snapshots, never the requests.
"""
