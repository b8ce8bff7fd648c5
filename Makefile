# Everything a fresh machine with Python (3.11 or newer) and make needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH ?=
TESTS ?= tests
JOBS ?= auto
QUICK := tests/dns tests/objects tests/zone tests/server tests/forward tests/config tests/metrics \
  tests/diagnostics/explain tests/diagnostics/cases tests/diagnostics/test_client.py \
  tests/sources/test_deletion_guard.py tests/sources/test_timeslice.py \
  tests/sources/kubernetes/test_codec.py tests/sources/kubernetes/test_reflector.py \
  tests/sources/manifests/test_documents.py \
  tests/test_cases.py tests/test_stats.py tests/test_yaml_text.py
DOCS_PORT ?= 8000
MINUTES ?= 30
SECONDS ?= 60
INPUTS ?= 0
FUZZ ?=

.PHONY: demo quick test test-kubernetes fuzz soak check static format bench bench-losses bench-reread docs docs-serve lock clean

demo: $(VENV)/.run
	@$(BIN)/python -m examples.demo

# All tests, or those of TESTS; PYTEST has more arguments, JOBS says how many at once (auto: two for
# each processor).
test: $(VENV)/.dev $(VENV)/.docs
	@$(BIN)/python -m tests.kube build
	@$(BIN)/python -m tests.deploy build
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS) $(PYTEST)

# What only real control planes of Kubernetes tell; builds them first, some minutes each, once. Not
# part of `make test`. The date of a run goes into docs/kubernetes.md.
test-kubernetes: $(VENV)/.dev
	$(BIN)/python -m tests.deploy build
	$(BIN)/python -m tests.kubernetes build
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/kubernetes $(PYTEST)

# The core: no other servers, no browser, no Go, under a minute of processor time; in one process,
# so that a debugger works.
quick: $(VENV)/.dev
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -n 0 $(QUICK) $(PYTEST)

# Random inputs for each reader, or for those of FUZZ (query tcp reply watch manifests snapshot
# config), for SECONDS, or INPUTS of them. atheris sees where an input leads; where it is not to be
# had for this Python, Hypothesis searches without seeing that.
fuzz: $(VENV)/.dev $(VENV)/.fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --inputs $(INPUTS) $(FUZZ)

check: static test

static: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.run
	$(BIN)/python -m bench $(BENCH)

# What is lost at a steady rate while servers come and go; wants dnsperf, unbound, and knot or nsd.
bench-losses: $(VENV)/.run
	$(BIN)/python -m bench.losses

# The longest gap in answers while a large folder of manifests is read again.
bench-reread: $(VENV)/.run
	$(BIN)/python -m bench.reread

# Load, changes and restarts for a while, every answer checked; wants Go. It ends with a picture.
soak: $(VENV)/.run $(VENV)/.soak
	$(BIN)/python -m bench.soak --minutes $(MINUTES); status=$$?; \
	  $(BIN)/python -m bench.soak.picture build/soak.json build/soak.png; exit $$status

# The site of docs/, in build/site; `make docs-serve` shows it while you write.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --no-strict --dev-addr 127.0.0.1:$(DOCS_PORT)

# The lock files name every version with its hashes; `make lock` resolves them anew.
lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	for set in run dev docs fuzz soak build; do sh requirements/compile $$set $(BIN)/uv; done

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mcsdns needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/run.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/dev.txt
	@touch $@

$(VENV)/.soak: requirements/soak.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/soak.txt
	@touch $@

$(VENV)/.fuzz: requirements/fuzz.txt | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  --only-binary :all: -r requirements/fuzz.txt \
	  || echo "atheris has no wheel for this Python and machine"
	@touch $@

$(VENV)/.docs: requirements/docs.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/docs.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
