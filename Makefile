# Sluice. `make help` lists the targets. A machine needs python3.11, make, gcc and git.

PYTHON ?= python3.11
# Where `make demo` serves metrics and status while it runs; port 0 takes any free one.
HTTP   ?= 127.0.0.1:9464
EVENTS ?= 200000
RATE   ?= 40000
OUT    ?= out/demo
# Of `make soak`.
SECONDS ?= 1800
SEED    ?= 1
# Of each target of `make fuzz`.
FUZZ_SECONDS ?= 60
# Of `make mutants`: parts of names of areas, by commas; faults of each; areas at a time; and
# `--narrow`, the first tests of an area only, or `--all`, all quick tests.
AREA    ?=
COUNT   ?= 25
LANES   ?= 1
MUTANTS ?=

# Where it is set, as in many containers, each process compiles all sources anew.
unexport PYTHONDONTWRITEBYTECODE

# First and alone, at this version: a wider range may bring gigabytes that only a GPU needs.
TORCH := torch==2.13.0
# Its libraries bring a build backend of their own: before what is installed without isolation.
TENSORRT := tensorrt-cu13
# Twice quiet: errors only.
PIP_OPTIONS := -qq --disable-pip-version-check
PINS := -c constraints.txt

# Tests wait a good deal for processes that they start: one tester more than there are cores.
TESTERS := $(shell expr $$(nproc) + 1)
# Of the tests: as they are written, or `make test ORDER=random`, which says how to repeat it.
ORDER   ?= written
PYTEST  := .venv/bin/pytest -n $(TESTERS) --dist worksteal --durations 20 \
  $(if $(filter random,$(ORDER)),-p randomly)

# The demo takes the development environment where there is one, else a small one of its own.
RUN := $(if $(wildcard .venv/.installed),.venv,.venv-run)

.DEFAULT_GOAL := help
.PHONY: help venv demo check checked test test-all soak fuzz mutants bench bench-peers figures gpu-runtime \
  gpu-check pins clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.installed ## Make .venv with everything: runtime, training, development

# A strict editable install links each file by itself: it is made anew when a file comes or goes.
# Two makes may run at once, so each writes a list of its own.
build/sources.list: FORCE
	@mkdir -p $(@D)
	@new=$@.$$$$; find package benchmarks kernels pipeline exporters models -type f ! -path '*/__pycache__/*' \
	  | LC_ALL=C sort > $$new; if cmp -s $$new $@; then rm $$new; else mv $$new $@; fi
FORCE:

.venv/.installed: EXTRAS := cpu,train,hdf5,root,dev
.venv-run/.installed: EXTRAS := cpu
.venv-gpu/.installed: EXTRAS := gpu,train,hdf5,root,dev
.venv-gpu/.installed: PINS := -c constraints.txt -c constraints-gpu.txt
.venv-gpu/.installed: constraints-gpu.txt
.venv/.installed .venv-run/.installed .venv-gpu/.installed: pyproject.toml setup.py constraints.txt \
  build/sources.list
	@echo "installing sluice[$(EXTRAS)] into $(@D) …"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install $(PIP_OPTIONS) $(PINS) pip setuptools
	@$(if $(findstring gpu,$(EXTRAS)),$(@D)/bin/python -m pip install $(PIP_OPTIONS) $(PINS) $(TENSORRT))
	@$(if $(findstring train,$(EXTRAS)),$(@D)/bin/python -m pip install $(PIP_OPTIONS) $(TORCH))
	@$(@D)/bin/python -m pip install $(PIP_OPTIONS) $(PINS) --no-build-isolation \
	  --config-settings editable_mode=strict -e '.[$(EXTRAS)]'
	@touch $@

demo: $(RUN)/.installed ## Simulate wafers, replay them through the hgcal graph, show the results
	@PATH="$(CURDIR)/$(RUN)/bin:$$PATH" deploy/demo.sh '$(OUT)' '$(EVENTS)' '$(RATE)' '$(HTTP)'

# Real bindings of both TensorRTs, for the contract test: they load beside empty libraries, and only
# there, so they do not go into .venv. Without the registry the test says what is missing.
TENSORRTS := 10.16 11.4
build/tensorrt/fetched: | .venv/.installed
	@for version in $(TENSORRTS); do \
	  .venv/bin/python -m pip install $(PIP_OPTIONS) --no-deps --upgrade \
	    --target $(@D)/$${version%%.*} "tensorrt-cu13-bindings==$$version.*" || exit 0; \
	done; touch $@

check: venv # Style, types and imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# Kernels are compiled beside mypy, which takes one core.
checked: venv
	@.venv/bin/python tests/compile_kernels.py & \
	  $(MAKE) --no-print-directory check; code=$$?; wait; exit $$code

test: checked build/tensorrt/fetched ## Check style, types and imports, then run all tests but the long ones
	HYPOTHESIS_PROFILE=ci $(PYTEST) -m 'not long'

# What hypothesis finds here goes into an `@example` of the test.
test-all: checked build/tensorrt/fetched ## The same with the long ones, and many more examples
	HYPOTHESIS_PROFILE=nightly $(PYTEST) --timeout 900 --new-interpreters

soak: venv ## A live run with faults injected for SECONDS, by SEED; report in out/soak.json
	.venv/bin/python -m tests.soak --seconds '$(SECONDS)' --seed '$(SEED)' --report out/soak.json

fuzz: venv ## Fuzz the readers of foreign bytes, FUZZ_SECONDS each; with atheris where it can be had
	.venv/bin/python -m pip install $(PIP_OPTIONS) "atheris>=3" || echo "atheris cannot be had here"
	.venv/bin/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

mutants: venv ## Plant COUNT faults in each AREA, by SEED, and list those that no test finds
	.venv/bin/python -m tests.mutants --area '$(AREA)' --count '$(COUNT)' --seed '$(SEED)' \
	  --lanes '$(LANES)' $(MUTANTS)

bench: venv ## Measure kernels and engines, as ratios within one run
	.venv/bin/python benchmarks/kernels.py
	.venv/bin/sluice bench pipeline

bench-peers: venv ## Measure Sluice beside systems that do the same job, one at a time
	benchmarks/peers/install.sh build/peers
	.venv/bin/python benchmarks/peers/run.py --environments build/peers --json out/peers.json

# Results are in docs/figures; MEASURE=1 measures all of them again, MEASURE="NAME ..." some.
figures: venv ## Write the figures of the README and the docs from the stored results, or measure first
	.venv/bin/python benchmarks/figures/run.py \
	  $(if $(MEASURE),--measure $(filter-out 1,$(MEASURE)))

gpu-runtime: venv ## Fetch the real onnxruntime-gpu, 255 MB, for tests that are skipped without it
	.venv/bin/python -m pip install $(PIP_OPTIONS) -c constraints-gpu.txt --no-deps --upgrade \
	  --target build/onnxruntime-gpu onnxruntime-gpu

# Looks for a GPU before it installs what only a GPU needs.
gpu-check: ## On a machine with a GPU: its tests, parity, throughput, rooflines, in 8 minutes
	@$(PYTHON) benchmarks/gpu/probe.py
	@$(MAKE) --no-print-directory .venv-gpu/.installed
	.venv-gpu/bin/python benchmarks/gpu/run.py --json out/gpu-check.json --page docs/gpu.md

pins: ## Write constraints.txt anew from what .venv holds
	@.venv/bin/python -m pip freeze --all --exclude-editable | sed 's/+cpu$$//' | LC_ALL=C sort -f > .pins
	@{ grep '^#' constraints.txt; cat .pins; } > .pins.new; mv .pins.new constraints.txt; rm .pins

clean: ## Remove environments, caches and everything made here
	rm -rf .venv .venv-run .venv-gpu build out *.egg-info .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find package kernels pipeline exporters models tests benchmarks -name __pycache__ -type d -prune \
	  -exec rm -rf {} +
