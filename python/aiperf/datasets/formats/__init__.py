"""Dataset formats, one file each (protocol: `aiperf.datasets.DatasetModule`)."""
