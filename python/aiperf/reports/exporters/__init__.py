"""Files of a run, one exporter each."""
