# make demo   the whole flow on a made-up valley and on a real Sentinel-2 scene, then where to look
# make test   the test suite
# make checkpoint, make ablation   train again what checkpoints/ and docs/ablation/ hold (half an hour; hours)
# make lint   formatters, linters, type checker, Snakemake's own lint
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
APT := DEBIAN_FRONTEND=noninteractive apt-get
SYNTHETIC := examples/synthetic/config.yaml
SCENE := examples/eastern_shore/config.yaml
TRAINED := results/checkpoint
ABLATION := results/ablation/ablation
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test slow lint format docs checkpoint ablation install gdal clean

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
	jointseg run $(SCENE)
	jointseg run $(SYNTHETIC)
	@echo
	@echo "Look at  results/synthetic/report/index.html      maps, tables, growth and the flow, with the real scene at its end"
	@echo "         results/eastern_shore/report/index.html  the real Sentinel-2 scene alone"
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

checkpoint: install
	jointseg run examples/checkpoint/config.yaml
	mkdir -p checkpoints/small
	for each in superres/stage2 segmentation/superres; do \
	  cp $(TRAINED)/$$each.safetensors checkpoints/small/$${each%/*}.safetensors && \
	  cp $(TRAINED)/$$each.png checkpoints/small/$${each%/*}.png && \
	  cp $(TRAINED)/release/models/$${each/\//-}.md checkpoints/small/$${each%/*}.md || exit 1; done

# The panels of real textures show pictures of others, so they stay in results/.
ablation: install
	jointseg run examples/ablation/config.yaml ablations
	for data in dataset textures; do \
	  mkdir -p docs/ablation/$$data && \
	  cp $(ABLATION)/$$data/{ablation.md,ablation.csv,images.csv,ablation.png} docs/ablation/$$data || exit 1; done
	cp $(ABLATION)/dataset/panels.png docs/ablation/dataset

clean:
	rm -rf $(VENV) results .snakemake
