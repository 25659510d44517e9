# Each command is printed before it runs. Without make (Windows): type the same commands, as the README lists them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow test-comfyui check bench

demo: $(INSTALLED)
	$(PY) -m trainer sample-data --out data/digits --train 5 --test 30
	$(PY) -m client plan --classes data/digits/train --per-class 30
	$(PY) -m client run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train --per-class 30 --batch-size 16 --cfg 3 --out data/digits-synthetic
	$(PY) -m trainer grid --real data/digits --synthetic data/digits-synthetic --models cnn,resnet50 --ratios 0,1,6 --budgets updates --seeds 3 --allow-untrained --out runs/digits

test: $(INSTALLED)
	$(PY) -m pytest -n 2 --dist worksteal

test-slow: $(INSTALLED)
	$(PY) -m pytest -m "slow and not comfyui"

# make test-comfyui COMFYUI_DIR=/path/to/ComfyUI [COMFYUI_PYTHON=/path/to/its/python]
test-comfyui: $(INSTALLED)
	COMFYUI_DIR="$(COMFYUI_DIR)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" $(PY) -m pytest -m "comfyui and not slow" tests/comfyui

check: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(INSTALLED)
	$(PY) benchmarks/saver.py
	$(PY) benchmarks/batching.py
	$(PY) benchmarks/client.py
	$(PY) benchmarks/folder.py
	$(PY) benchmarks/decode.py
	$(PY) benchmarks/grid.py
	$(PY) benchmarks/false_alarms.py

$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --upgrade pip
	$(PY) -m pip install -e ".[dev]"
	$(PY) -c "import pathlib; pathlib.Path('$(INSTALLED)').touch()"
