# make demo   run the workflow on the synthetic scene and on a real Sentinel-2 scene
# make test   run the tests
# make checkpoint, make ablation   retrain checkpoints/ (half an hour), rebuild docs/ablation/ (hours)
# make docs   build the documentation site in site/, with warnings as errors
# make lint   formatters, linters, type checker, Snakemake's lint
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
APT := DEBIAN_FRONTEND=noninteractive apt-get
SYNTHETIC := examples/synthetic/config.yaml
SCENE := examples/eastern_shore/config.yaml
TRAINED := results/checkpoint
ABLATION := results/ablation/ablation
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test slow lint format docs figures checkpoint ablation install gdal clean

install: $(VENV)/installed gdal

# Install torch first: resolved together with the other packages, pip may choose a build of several GB.
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
	  || { echo "the GDAL command-line tools are missing; install them (Debian: apt-get install gdal-bin) and rerun make"; exit 1; }

demo: install
	jointseg run $(SCENE)
	jointseg run $(SYNTHETIC)
	@echo
	@echo "Reports  results/synthetic/report/index.html      synthetic scene: maps, accuracy, growth; real scene at the end"
	@echo "         results/eastern_shore/report/index.html  real Sentinel-2 scene"
	@echo "Viewer   $(BIN)/jointseg serve results/synthetic"
	@echo "Audit    $(BIN)/jointseg audit verify results/synthetic"

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
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict -q

# The diagrams of the documentation; the rule graph of a finished run has the rules behind the checkpoint too.
figures: install
	snakemake --configfile $(SYNTHETIC) --rulegraph 2>/dev/null | python docs/figures.py

checkpoint: install
	jointseg run examples/checkpoint/config.yaml
	mkdir -p checkpoints/small
	for step in superres/stage2 segmentation/superres; do \
	  cp $(TRAINED)/$$step.safetensors checkpoints/small/$${step%/*}.safetensors && \
	  cp $(TRAINED)/$$step.png checkpoints/small/$${step%/*}.png && \
	  cp $(TRAINED)/release/models/$${step/\//-}.md checkpoints/small/$${step%/*}.md || exit 1; done

# The panels of real textures contain images of third parties, so they stay in results/.
ablation: install
	jointseg run examples/ablation/config.yaml ablations
	for data in dataset textures; do \
	  mkdir -p docs/ablation/$$data && \
	  cp $(ABLATION)/$$data/{ablation.md,ablation.csv,images.csv,ablation.png} docs/ablation/$$data || exit 1; done
	cp $(ABLATION)/dataset/panels.png docs/ablation/dataset

clean:
	rm -rf $(VENV) results .snakemake
