"""Charts, one file each: `draw(runs) -> Spec | None` (protocol: `aiperf.plots`)."""
