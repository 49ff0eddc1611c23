"""Kinds of workload, one file each: `build(name, options, command)` gives the objects to apply, in order."""
