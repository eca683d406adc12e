# The habits of the house. Everything runs in this checkout's own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What mypy reads: the packages that exist in this checkout.
PACKAGES := $(wildcard chpnet_stream training/chpnet_training gadgets/chpnet_gadgets)

.PHONY: help install demo test lint format bench soak hostile lock audit docs tools clean

help:
	@echo "make demo    simulate an accelerated scan, reconstruct it, write the picture (demo/)"
	@echo "make test    all tests, warnings as errors"
	@echo "make lint    ruff, ruff format --check, mypy"
	@echo "make format  let ruff format and fix"
	@echo "make bench   measure quality and speed, write docs/tables/"
	@echo "make soak    hundreds of paced scans through serve and gadget, half an hour"
	@echo "make hostile 100,000 bad inputs and more, half an hour"
	@echo "make lock    write requirements.lock and docker/*.lock: packages with their checksums"
	@echo "make audit   compare it with the known vulnerabilities (needs the network)"
	@echo "make docs    build what docs/ generates"
	@echo "make clean   remove .venv, caches and demo/"

install: $(STAMP)

# torch first and by its exact version, so that no other package's wish can fetch a second one.
$(STAMP): pyproject.toml hatch_build.py
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "make: found $$($(PYTHON) --version 2>&1), expected Python 3.10 to 3.13;" \
			"name one: PYTHON=python3.12 make ..." >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	touch $@

demo: $(STAMP)
	mkdir -p demo
	$(BIN)/chpnet-stream simulate demo/scan.h5 --matrix 256 --slices 5 --coils 12 \
		--acceleration 4 --snr 40 --overwrite
	$(BIN)/chpnet-stream offline demo/scan.h5 -o demo/images.h5 --compare --png demo --overwrite

# Training has a process of its own: what servers and engines of the other tests leave running must
# not meet it.
test: $(STAMP) tools
ifeq ($(strip $(TESTS)),)
	$(BIN)/python -m pytest --ignore=tests/training; first=$$?; \
		$(BIN)/python -m pytest tests/training && exit $$first
else
	$(BIN)/python -m pytest $(TESTS)
endif

# Debian packages that some tests compare with, and a browser; their absence is told, not punished.
tools:
	@command -v bart >/dev/null || \
		echo "make: no bart: tests that compare with it are skipped (apt-get install bart)"
	@command -v ismrmrd_recon_cartesian_2d >/dev/null || \
		echo "make: no ismrmrd-tools: tests that compare with them are skipped" \
			"(apt-get install ismrmrd-tools)"
	@command -v chromedriver >/dev/null || \
		echo "make: no chromedriver: tests of the live view in a browser are skipped" \
			"(apt-get install chromium chromium-driver)"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/chpnet-stream bench --matrix 256 --coils 16 --slices 200 --overwrite \
		--out docs/tables/latency-short.md
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/superres.py

soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py

hostile: $(STAMP)
	$(BIN)/python -m tests.hostile.campaign --inputs 150000 --out docs/tables/hostile.md
	$(BIN)/python -m tests.hostile.coverage --seconds 60 --out docs/tables/coverage.md

lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.10 \
		--extra plots --extra serve --extra mrd2 --extra dicom --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock
	printf 'tensorrt-rtx-cu13==1.7.1.116\nonnx>=1.17\n' | $(BIN)/uv pip compile - --quiet \
		--python-version 3.11 --constraint requirements.lock --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file docker/tensorrt-rtx.lock
	printf 'hatchling>=1.26\n' | $(BIN)/uv pip compile - --quiet \
		--python-version 3.11 --constraint requirements.lock --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file docker/build.lock

audit: $(STAMP)
	$(BIN)/uv tool run pip-audit --requirement requirements.lock --require-hashes --disable-pip

docs: $(STAMP)
	@if test -f docs/build.py; then $(BIN)/python docs/build.py; \
		else echo "make: docs/ is plain Markdown, nothing to build"; fi

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
