"""How two runs differ, in words: why a folder that was made with other settings is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..workflow.api_graph import shortened


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two `Workflow.content` values differ: "steps 20 -> 30", "node 12 (LoraLoader) is new"."""
    found = []
    for node_id in dict.fromkeys((*old, *new)):
        before, after = old.get(node_id), new.get(node_id)
        kind = (after or before or {}).get("class_type")
        if before is None or after is None:
            found.append(f"node {node_id} ({kind}) is {'new' if before is None else 'gone'}")
        elif before.get("class_type") != kind:
            found.append(f"node {node_id} {before.get('class_type')} -> {kind}")
        else:
            found += _input_differences(before.get("inputs") or {}, after.get("inputs") or {})
    return found


def _input_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return [f"{name} {_shown(old.get(name))} -> {_shown(new.get(name))}" for name in names]


def _shown(value: Any) -> str:
    return shortened("nothing" if value is None else str(value))


# Only in plans that have alternatives or wildcards, own entries of classes, shared prompts, or
# several strengths.
_LATER = ("syntax", "wildcards", "per_class", "images_per_prompt", "strengths")


def plan_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two `to_dict` values of plans differ; images per class or caption may differ freely."""
    found = []
    before = [(each["name"], each["definition"]) for each in old.get("classes", ())]
    after = [(each["name"], each["definition"]) for each in new.get("classes", ())]
    if before != after:
        found.append(_class_difference(before, after))
    if old.get("captions") != new.get("captions"):
        found.append(f"{_captions(old)} -> {_captions(new)}")
    for name in ("templates", "negative_prompt", "contexts", "styles", *_LATER, "seed"):
        if old.get(name) != new.get(name):
            found.append(
                f"{name.replace('_', ' ')} {_shown(old.get(name))} -> {_shown(new.get(name))}"
            )
    return found


def _captions(plan: Mapping[str, Any]) -> str:
    captions = plan.get("captions")
    if not captions:
        return "no captions"
    return f"{captions['count']} captions ({captions['sha256'][:8]})"


def _class_difference(old: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> str:
    gone = [name for name, _ in old if name not in dict(new)]
    added = [name for name, _ in new if name not in dict(old)]
    if not gone and not added:
        changed = sorted(old) == sorted(new)
        return "the order of the classes" if changed else "the definitions of the classes"
    parts = [f"without {_shown(', '.join(gone))}"] if gone else []
    parts += [f"with {_shown(', '.join(added))} added"] if added else []
    return f"{len(old)} -> {len(new)} classes, " + " and ".join(parts)
