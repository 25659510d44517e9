"""The commands of `python -m client`, one a file: `add_parser` declares it, and its handler returns the exit code."""

from __future__ import annotations

from . import plan, run, serve, validate

COMMANDS = (plan, run, validate, serve)
EXAMPLES = """examples:
  python -m client plan --classes data/digits/train --per-class 30
  python -m client run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train \\
      --per-class 30 --batch-size 16 --out data/digits-synthetic
  python -m client validate workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188
  python -m client serve --port 8188 --base-directory data/engine
"""
