# make demo   the whole flow on a made-up valley and on a real Sentinel-2 scene, then where to look
# make test   the test suite
# make lint   formatters, linters, type checker, Snakemake's own lint
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
APT := DEBIAN_FRONTEND=noninteractive apt-get
REHEARSAL := examples/rehearsal/config.yaml
SCENE := examples/eastern_shore/config.yaml
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test slow lint format docs install gdal clean

install: $(VENV)/installed gdal

# torch goes first and alone: resolved together with the rest, a newer build of several GB may be chosen.
$(VENV)/installed: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "JointSeg needs Python 3.11 as python3"; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { [ $$(id -u) = 0 ] && $(APT) update -qq && $(APT) install -y -qq python3-venv; } \
	  || { echo "python3 has no venv module; install it (Debian: apt-get install python3-venv)"; exit 1; }
	python3 -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

gdal:
	@command -v gdalbuildvrt >/dev/null || { [ $$(id -u) = 0 ] && $(APT) update -qq && $(APT) install -y -qq gdal-bin >/dev/null; } \
	  || { echo "GDAL's command-line tools are missing; install them (Debian: apt-get install gdal-bin) and run again"; exit 1; }

demo: install
	jointseg run $(REHEARSAL)
	jointseg run $(SCENE)
	jointseg run $(REHEARSAL)
	@echo
	@echo "Look at  results/rehearsal/report/index.html      maps, tables, growth and the flow, with the real scene at its end"
	@echo "         results/eastern_shore/report/index.html  the real Sentinel-2 scene alone"
	@echo "Audit    $(BIN)/jointseg audit verify results/rehearsal"

test: install
	pytest -n 2 --dist loadfile

slow: install
	pytest -m slow

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	mypy src
	for config in config.yaml examples/*/config.yaml; do snakemake --lint --configfile $$config || exit 1; done

format: install
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

docs: install
	jointseg schema > docs/config.schema.json
	jointseg schema --markdown > docs/config.md

clean:
	rm -rf $(VENV) results .snakemake
