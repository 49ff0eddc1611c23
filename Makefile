# The same targets locally and in CI. Needed: Python >= 3.11, a C compiler, cargo; everything else is fetched into .venv.
.DEFAULT_GOAL := build
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)
export PYO3_PYTHON := $(VIRTUAL_ENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

NATIVE := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml -o -name '*.bin' -o -name '*.txt' -o -name '*.zst')
YARDSTICKS := $(shell find benchmarks/yardsticks -name '*.rs' -o -name Cargo.toml)
PY := python tests benchmarks conftest.py

.PHONY: build dev venv demo wheel test test-python test-sinks dynamo amdsmi test-dynamo test-rust check check-rust check-python bench versus compat fuzz docs docs-check clean

build: $(STAMPS)/native  ## compile the native core and install aiperf into .venv

dev: $(STAMPS)/native $(STAMPS)/dev  ## and what tests and checks need

venv: $(STAMPS)/venv  ## the virtual environment alone, with maturin

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, found $$($(PYTHON) --version); try: make PYTHON=python3.12" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "error: cargo is needed; see https://rustup.rs" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q 'maturin>=1.9,<2'
	@mkdir -p $(STAMPS) && touch $@

# maturin develop installs the package editable, with its dependencies: Python sources need no rebuild.
$(STAMPS)/native: $(STAMPS)/venv $(NATIVE)
	$(BIN)/maturin develop -q --release
	@touch $@

$(STAMPS)/dev: $(STAMPS)/native pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' \
	  | $(BIN)/python -m pip install -q -r /dev/stdin
	@touch $@

demo: build  ## a run against the built-in simulated server
	docs/demo.sh

# With the artefacts of `build`. maturin refuses the tag if the library needs more of the system than the tag promises; then the wheel is
# installed and used where there is neither cargo nor a C compiler.
wheel: $(STAMPS)/venv  ## a manylinux wheel in dist/, tried without a compiler
	rm -rf dist
	$(BIN)/maturin build -q --release --compatibility pypi --out dist
	.ci/try-wheel dist/*.whl

test: test-python test-rust  ## every test

# Rust first would be the natural order, but the last line a reader sees should be pytest's verdict.
# Against the services themselves: OTLP receiver, `mlflow server`, Weights & Biases offline. Their packages are heavy, so in an environment of their own.
test-sinks: dev  ## the tests of --otel-url, --mlflow-… and --wandb-…
	test -x $(VENV)-sinks/bin/python || $(PYTHON) -m venv $(VENV)-sinks
	$(VENV)-sinks/bin/python -m pip install -q mlflow wandb opentelemetry-exporter-otlp-proto-http
	printf '%s\n' "$(CURDIR)/python" "$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages)" > "$$(echo $(VENV)-sinks/lib/python*/site-packages)/aiperf.pth"
	$(VENV)-sinks/bin/python -m pytest tests/e2e/live/test_sinks_services.py tests/unit/live/test_sinks.py -n 0

# NVIDIA Dynamo without the engines and without what only they need: its frontend and mocker import no more than this.
dynamo: $(VENV)-dynamo/.installed  ## NVIDIA Dynamo in an environment of its own, for the tests marked so

$(VENV)-dynamo/.installed:
	test -x $(VENV)-dynamo/bin/python || $(PYTHON) -m venv $(VENV)-dynamo
	$(VENV)-dynamo/bin/python -m pip install -q --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1
	$(VENV)-dynamo/bin/python -m pip install -q 'pydantic<=2.13.5' uvloop msgspec packaging pyyaml
	$(VENV)-dynamo/bin/python -c 'import dynamo.frontend.main, dynamo.mocker.main'
	@touch $@

# Beside Ray's packages: Ray imports it when it is there, and fails where AMD's library is not.
amdsmi: $(VENV)-amdsmi/amdsmi  ## AMD's Python package in a folder of its own, for the tests marked amd

$(VENV)-amdsmi/amdsmi: $(STAMPS)/venv
	$(BIN)/python -m pip install -q --target $(VENV)-amdsmi amdsmi

test-dynamo: dev dynamo  ## the tests against NVIDIA Dynamo
	AIPERF_REQUIRE=dynamo $(BIN)/python -m pytest tests/e2e/test_dynamo.py -n 0

test-python: dev test-rust
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Release, and with aiperf-py among the packages though it has no tests in Rust: libraries then have the features that `build` gave
# them, and none is compiled a second time. The yardsticks have no tests, and would bring features of their own.
test-rust: $(STAMPS)/venv
	if cargo nextest --version >/dev/null 2>&1; \
	  then cargo nextest run --release --workspace --exclude yardsticks; \
	  else cargo test -q --release --workspace --exclude yardsticks; fi

check: check-rust check-python docs-check  ## formats, lints, types, import contract, generated docs

check-rust: $(STAMPS)/venv
	cargo fmt --all --check
	cargo clippy -q --workspace --all-targets -- -D warnings

check-python: dev
	$(BIN)/ruff format --check $(PY)
	$(BIN)/ruff check $(PY)
	$(BIN)/mypy $(PY)
	$(BIN)/python -m mypy.stubtest aiperf._core --mypy-config-file pyproject.toml
	$(BIN)/lint-imports

docs: dev  ## regenerate docs/reference
	$(BIN)/python -m aiperf.cli.reference

docs-check: dev  ## fails with a diff where docs/reference is stale
	$(BIN)/python -m aiperf.cli.reference --check

bench: dev $(STAMPS)/yardsticks  ## how fast, how late, how heavy are we: benchmarks/README.md
	$(BIN)/python -m benchmarks.bench $(BENCH)

versus: dev $(STAMPS)/yardsticks  ## the table of README.md, against AIPerf 0.13.0 in a venv of its own
	$(BIN)/python -m benchmarks.versus $(VERSUS)

# Not part of CI: it fetches 2 GB and takes a quarter of an hour. What AIPerf wrote is kept in tests/compat/aiperf-0.13, which tests compare ours with.
compat: dev  ## the commands of tests/compat with AIPerf 0.13.0 and with this tool: COMPAT='--peer VENV --only sweep --update' make compat
	$(BIN)/python -m tests.compat.measure $(COMPAT)

# Not part of CI: minutes per target. A finding is written to fuzz/artifacts and ends the run.
FUZZ_SECONDS ?= 120
FUZZ_TARGETS ?= http sse json reply frames journal
fuzz:  ## fuzz the parsers: FUZZ_SECONDS=1800 FUZZ_TARGETS='http sse' make fuzz; needs cargo-fuzz and a nightly compiler
	@cargo fuzz --version >/dev/null 2>&1 || { echo "error: cargo-fuzz is needed; try: cargo install cargo-fuzz" >&2; exit 1; }
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/work/$$target; \
	  cargo +nightly fuzz run --target-dir target/fuzz $$target fuzz/work/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; \
	done

$(STAMPS)/yardsticks: $(STAMPS)/venv $(YARDSTICKS)
	cargo build -q --release -p yardsticks
	@touch $@

clean:  ## everything made by the targets above
	cargo clean -q
	rm -rf $(VENV) $(VENV)-dynamo $(VENV)-amdsmi dist artifacts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis python/aiperf/_core*.so
