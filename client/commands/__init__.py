"""The commands of `python -m client`, one a file: `add_parser` declares it, and its handler returns the exit code."""

from __future__ import annotations

from . import cancel, convert, extend, plan, run, serve, status, validate, verify

COMMANDS = (plan, run, validate, convert, extend, verify, status, cancel, serve)
EXAMPLES = """examples:
  python -m client plan --classes data/digits/train --per-class 30
  python -m client run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train \\
      --per-class 30 --batch-size 16 --out data/digits-synthetic
  python -m client validate workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188
  python -m client extend data/digits-synthetic --per-class 60 --server embedded
  python -m client verify data/digits-synthetic --repair
  python -m client status data/digits-synthetic
  python -m client cancel data/digits-synthetic
  python -m client convert my_workflow.json --server http://127.0.0.1:8188 --out my_workflow_api.json
  python -m client serve --port 8188 --base-directory data/engine
"""
