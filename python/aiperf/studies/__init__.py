"""Studies: recipes over `profile` that answer one question about a server with several runs, a table, a page and assertions.

A study is a `StudyKind`: its options, its metrics with their definitions, and `work(bench)`, which measures through a `Bench` and returns a
`StudyReport`. `study.run_study` gives it a folder, resumes it, checks its assertions, and writes its files (`files`), page (`page`) and
screen (`screen`). `cache/` asks what the prefix cache is worth, `kv/` how much fits in the KV cache and what happens at its edge.
"""
