#!/usr/bin/env bash
# What `make demo` runs: the simulated server on a free port, and the first command of docs/guide/simple-profiling.md against it.
set -euo pipefail

work=$(mktemp -d)
aiperf sim --model qwen3-0.6b --ttft 200ms --itl 3.5ms --jitter 0.3 >"$work/sim" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

url=
while [[ -z $url ]]; do
  kill -0 "$server" 2>/dev/null || { cat "$work/sim" >&2; exit 1; }
  sleep 0.05
  url=$(grep -oE 'https?://[^ ]+' "$work/sim" | head -n 1 || true)
done

aiperf profile --model qwen3-0.6b --url "$url" --endpoint-type chat --streaming --concurrency 100 --request-count 1000 \
  --isl 1000 --osl 500 --tokenizer builtin "$@"
