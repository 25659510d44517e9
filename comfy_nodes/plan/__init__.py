"""Plans: classes, templates and banks become rows, the label, prompt and seed of one image each.

Standard library only.
"""

from ..listing import parse_lines
from .classes import ClassEntry, classes_from_json, parse_classes, read_classes
from .generation_plan import (
    MOST_PER_BATCH,
    MOST_PER_CLASS,
    GenerationPlan,
    digest,
    fingerprint,
)
from .rows import MAX_SEED, MOST_ATTEMPTS, MOST_PER_PROMPT, ImageSpec, Rows
from .templates import DEFAULT_TEMPLATE, PLACEHOLDERS, PromptTemplates, fill, placeholders

__all__ = [
    "DEFAULT_TEMPLATE",
    "MAX_SEED",
    "MOST_ATTEMPTS",
    "MOST_PER_BATCH",
    "MOST_PER_CLASS",
    "MOST_PER_PROMPT",
    "PLACEHOLDERS",
    "ClassEntry",
    "GenerationPlan",
    "ImageSpec",
    "PromptTemplates",
    "Rows",
    "classes_from_json",
    "digest",
    "fill",
    "fingerprint",
    "parse_classes",
    "parse_lines",
    "placeholders",
    "read_classes",
]
