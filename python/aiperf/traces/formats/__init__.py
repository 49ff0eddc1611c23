"""Trace formats, one file each (protocol: `aiperf.traces.TraceModule`)."""
