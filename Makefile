# `make demo` and `make test` set up all that they need in .venv, on a machine with Python 3.11 or newer.
# The others are listed in CONTRIBUTING.md.

PYTHON ?= $(shell sh tools/find-python)
VERSIONS := 3.11 3.12 3.13
# What `make test` asks for, in per cent of lines and of branches.
LINES := 97
BRANCHES := 93

BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
VENV := .venv/$(BIN)
# The package is installed in place, so its Python files need no new installation; what is built does.
BUILT_FROM := pyproject.toml $(wildcard setup.py src/pea2pea/*.c src/pea2pea/*.h)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.NOTPARALLEL:
.PHONY: demo test quick test-all test-interop test-instructions update-instructions bench lint types fuzz wheel clean
.DELETE_ON_ERROR:

# Eight processes, and a file of 64 MiB that is made for them and spreads for a few seconds.
demo: .venv/.demo
	$(VENV)/pea2pea demo --nodes 8 --size 64

test: lint types
	$(VENV)/python -m pytest -n auto --cov --cov-report=
	$(VENV)/python -m coverage json -q -o build/coverage.json
	$(VENV)/python -m coverage report
	$(VENV)/python tools/check_coverage.py build/coverage.json $(LINES) $(BRANCHES)

# An answer in about half a minute: lint, and the tests that need neither sockets nor processes.
quick: lint
	$(VENV)/python -m pytest -q -n auto -m "not interop" tests/core tests/codec tests/memory tests/typed -k "not tcp"

lint: .venv/.dev
	$(VENV)/python -m ruff check .

types: .venv/.dev
	$(VENV)/python -m mypy

test-all:
	@failed=0; \
	for version in $(VERSIONS); do \
		if python=$$(sh tools/find-python $$version); then \
			echo "== Python $$version: $$python"; \
			$(MAKE) --no-print-directory .venv-$$version/.dev PYTHON="$$python" && \
			.venv-$$version/$(BIN)/python -m pytest -n auto || failed=1; \
		else \
			echo "== Python $$version: not on this machine, left out"; \
		fi; \
	done; \
	exit $$failed

# The C module, built with sanitizers, against the Python beside it, for so many seconds.
SECONDS ?= 60
INCLUDE = $(shell $(VENV)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
fuzz: .venv/.dev
	@mkdir -p build/fuzz
	$(CC) -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1 -fwrapv -fPIC -shared \
		-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror \
		-DPy_LIMITED_API=0x030B0000 -isystem $(INCLUDE) src/pea2pea/_speedups.c -o build/fuzz/_speedups.abi3.so
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PEA2PEA_PURE=1 \
		$(VENV)/python tests/support/speedups_cases.py build/fuzz/_speedups.abi3.so $(SECONDS) $(SEED)

# Peers that others wrote, which the tests install below build/interop; needs node and npm, gcc and the headers of GMP.
test-interop: .venv/.dev
	command -v openssl >/dev/null || { apt-get update -qq && apt-get install -qq -y openssl; }
	$(VENV)/python -m pytest tests/interop -m interop

# Counts, not times: they are the same on a busy machine. CONTRIBUTING.md says when to update them.
test-instructions: .venv/.dev
	$(VENV)/python tests/instructions/check.py

update-instructions: .venv/.dev
	$(VENV)/python tests/instructions/check.py --update

# About fifteen minutes, on a machine that does nothing else: writes bench/results.json and docs/benchmarks.md.
bench: .venv-bench/.bench
	.venv-bench/$(BIN)/python -m bench

wheel: .venv/.dev
	rm -rf dist build/wheel
	$(VENV)/python -m build --outdir dist .
	for built in dist/*.whl dist/*.tar.gz; do \
		$(VENV)/python -m venv --clear build/wheel && \
		build/wheel/$(BIN)/python $(PIP_INSTALL) "$$built[cli]" && \
		build/wheel/$(BIN)/pea2pea --help >/dev/null && \
		build/wheel/$(BIN)/python -m pip check || exit 1; \
	done
	ls -l dist

clean:
	rm -rf .venv .venv-* build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf src/*.egg-info src/pea2pea/*.so
	find src tests examples tools bench -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.demo: $(BUILT_FROM) | .venv/.made
	$(VENV)/python $(PIP_INSTALL) -e '.[cli,speed]'
	@touch $@

# libp2p builds some of its own dependencies; without it the others are measured all the same.
%/.bench: $(BUILT_FROM) | %/.made
	$*/$(BIN)/python $(PIP_INSTALL) -e '.[bench]'
	$*/$(BIN)/python $(PIP_INSTALL) -e '.[bench,bench-libp2p]' || echo "libp2p cannot be installed: left out"
	@touch $@

%/.dev: $(BUILT_FROM) | %/.made
	$*/$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@mkdir -p build
	@touch $@

.PRECIOUS: %/.made
%/.made:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv and pip was found; name one: make PYTHON=..."; exit 1; }
	"$(PYTHON)" -m venv --clear $*
	@touch $@
