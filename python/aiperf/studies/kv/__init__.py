"""`aiperf kv`: how much fits in a server's KV cache, and what the server does when no more fits.

`plan` says what is sent, `work` sends it step by step, `step` reads what each said: `streams` (tokens in flight by the client's records),
`pauses` (requests that were preempted), `steps` (computed again or not), `levels` (the server's gauges), `mix` (long prompts beside short).
`figures` makes numbers of it, `verdicts` a judgement per property, `report` tables and `charts`. `kind.KIND` puts the parts together.
"""
