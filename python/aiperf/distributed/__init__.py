"""One load from several machines: the generators of a Ray cluster, and how what they made becomes one run.

`generator` runs on every node (an actor; it knows the engine, nothing of the head), `cluster` finds and checks the nodes, `conduct` starts,
watches and stops the generators, `clocks` measures how far their clocks are apart, `joining` makes one outcome of what became of each.
"""
