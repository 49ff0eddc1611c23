"""`aiperf cache`: what shared KV blocks are worth on this server, and until when.

Parts, each a file: `gain` (shared share of the prompts against measured and theoretical hits), `capacity` (working set until hits fall),
`policy` (which eviction policy explains the hits), `isolation` (contamination, reset, leaks, routing), `replay` (a trace's own reuse).
`prompts` are what is sent, `theory` what an ideal cache would serve of it, `meter` sends them. `study.KIND` puts the parts together.
"""
