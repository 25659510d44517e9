# Each command is printed before it runs. Without make (Windows): type the same commands, as the README lists them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo docs test coverage test-slow test-comfyui check bench constraints

demo: $(VENV)/.demo
	$(VENV)/bin/synthgrid sample-data --out data/digits --train 5 --test 30
	$(VENV)/bin/synthgrid plan --classes data/digits/train --per-class 30
	$(VENV)/bin/synthgrid run sd15_class_prompts --server embedded --classes data/digits/train --per-class 30 --batch-size 16 --cfg 3 --out data/digits-synthetic
	$(VENV)/bin/synthgrid grid --real data/digits --synthetic data/digits-synthetic --models cnn,lite0 --ratios 0,1,6 --budgets updates --seeds 3 --updates 300 --no-mirror --out runs/digits

# Three processes keep two cores busy: many tests wait for a server.
test: $(VENV)/.dev
	$(PY) -m pytest -n 3 --dist worksteal

# The same tests, and the lines and branches that they never reach; takes a sixth longer.
coverage: $(VENV)/.dev
	$(PY) -m pytest -n 3 --dist worksteal --cov

test-slow: $(VENV)/.dev
	$(PY) -m pytest -m "slow and not comfyui"

# make test-comfyui COMFYUI_DIR=/path/to/ComfyUI [COMFYUI_PYTHON=/path/to/its/python]
test-comfyui: $(VENV)/.dev
	COMFYUI_DIR="$(COMFYUI_DIR)" COMFYUI_PYTHON="$(COMFYUI_PYTHON)" $(PY) -m pytest -m "comfyui and not slow" tests/comfyui

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# The web site of docs/, into site/. A broken link is an error.
docs: $(VENV)/.docs
	$(PY) -m mkdocs build

bench: $(VENV)/.dev
	$(PY) benchmarks/making/saver.py
	$(PY) benchmarks/making/plan.py
	$(PY) benchmarks/making/batching.py
	$(PY) benchmarks/making/client.py
	$(PY) benchmarks/making/folder.py
	$(PY) benchmarks/training/decode.py
	$(PY) benchmarks/training/grid.py
	$(PY) benchmarks/training/augmentation.py
	$(PY) benchmarks/training/check.py
	$(PY) benchmarks/making/shards.py
	$(PY) benchmarks/evidence/false_alarms.py --grids 300
	$(PY) benchmarks/evidence/real_nulls.py

# The newest versions of everything, for every Python and system that we support; run the tests before you commit them.
constraints: $(VENV)/.dev
	$(PY) -m pip install uv
	$(PY) -m uv pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.10 --upgrade --no-header --no-annotate -o constraints.txt

# What the demo needs, what tests and checks need, and what the site needs; all in the versions of constraints.txt.
$(VENV)/.demo $(VENV)/.dev $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --upgrade pip
	$(PY) -m pip install -c constraints.txt -e ".[$*]"
	$(PY) -c "import pathlib; pathlib.Path('$@').touch()"
