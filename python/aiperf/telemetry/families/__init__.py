"""Server families, one file each; `FAMILY` is its object (`aiperf.telemetry.Family`)."""
