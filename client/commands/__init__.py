"""The commands of `synthgrid`, one a file: `add_parser` declares it, and its handler returns the exit code."""

from __future__ import annotations

from . import cancel, convert, extend, plan, run, serve, status, validate, verify

COMMANDS = (plan, run, validate, convert, extend, verify, status, cancel, serve)
EXAMPLES = """examples:
  synthgrid plan --classes data/digits/train --per-class 30
  synthgrid run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train \\
      --per-class 30 --batch-size 16 --out data/digits-synthetic
  synthgrid validate workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188
  synthgrid extend data/digits-synthetic --per-class 60 --server embedded
  synthgrid verify data/digits-synthetic --repair
  synthgrid status data/digits-synthetic
  synthgrid cancel data/digits-synthetic
  synthgrid convert my_workflow.json --server http://127.0.0.1:8188 --out my_workflow_api.json
  synthgrid serve --port 8188 --base-directory data/engine
"""
