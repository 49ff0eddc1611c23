"""The live page and the live numbers over HTTP (`--serve`, `--api-port`)."""
