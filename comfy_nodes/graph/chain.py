"""The nodes between the model files and a saver, in the compact form that a record can hold.

    ['{"CheckpointLoaderSimple": {"ckpt_name": "sd15.safetensors"}}',
     '{"LoraLoader": {"clip": "@0.1", "lora_name": "ink.safetensors", "model": "@0.0", ...}}',
     '{"SynthGridEncodeClassPrompts": {"batch": "@record", "clip": "@1.1"}}',
     ...
     '{"SynthGridLabelledImageSaver": {"format": "PNG", "images": "@11.0", "quality": 95}}']

Each entry is JSON of one node and its inputs; the entries that a node needs come before it. "@1.0"
is output 0 of entry 1. "@record" is what the record itself says: label, prompt, negative prompt,
seed and strength. A typed-in text that begins with "@" gets another "@" in front. Entries are
texts, because readers of tables need one type per column. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..errors import LabelsetError
from ..labelset import portable
from .settings import Graph, is_link

LONGEST = 16_384  # characters of all entries as JSON; a JPEG can hold about four times as much
LEFT_OUT = "@left out"
FROM_RECORD = "@record"
# Everything that these nodes say of an image is in its record.
_BATCHERS = ("SynthGridClassPromptBatcher",)
_OF_SAVER = ("images", "format", "quality")  # the others change no pixel


def chain_of(prompt: Graph, saver_id: str | None) -> list[str]:
    """The chain that ends with the images of a saver; empty if the saver is not in the graph.

    It depends neither on node ids nor on their order. If it is longer than LONGEST, its only entry
    is {"@left out": {"nodes": ..., "characters": ..., "sha256": ...}}.
    """
    if saver_id is None or saver_id not in prompt:
        return []
    order = _order(prompt, saver_id)
    places = {node_id: place for place, node_id in enumerate(order)}
    try:
        entries = [_entry(prompt, node_id, places, node_id == saver_id) for node_id in order]
    except LabelsetError:  # values nested too deep for a record
        entries = []
    text = json.dumps(entries)
    if entries and len(text) <= LONGEST:
        return entries
    digest = hashlib.sha256(text.encode()).hexdigest()
    told = {"nodes": len(order), "characters": len(text), "sha256": digest}
    return [json.dumps({LEFT_OUT: told})]


def warning_of(chain: list[str]) -> str | None:
    """What to tell the user if a chain was left out."""
    told = json.loads(chain[0]).get(LEFT_OUT) if chain else None
    if told is None:
        return None
    return (
        f"the {told['nodes']} nodes that made the images take {told['characters']} characters, "
        f"more than the {LONGEST} that a record holds: settings.chain has only their SHA-256; "
        "the graph inside PNG and WebP files is whole"
    )


def _inputs(prompt: Graph, node_id: str, is_saver: bool) -> dict[str, Any]:
    inputs = prompt[node_id].get("inputs", {})
    return {name: inputs[name] for name in sorted(inputs) if not is_saver or name in _OF_SAVER}


def _order(prompt: Graph, saver_id: str) -> list[str]:
    """The node ids before the saver and its own, each after those that feed it."""
    done: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [(saver_id, False)]
    while waiting:
        node_id, is_fed = waiting.pop()
        if is_fed:
            done[node_id] = None
            continue
        if node_id in seen:
            continue
        seen.add(node_id)
        waiting.append((node_id, True))
        values = list(_inputs(prompt, node_id, node_id == saver_id).values())
        waiting += [
            (link[0], False)
            for link in reversed(values)
            if is_link(link) and link[0] in prompt and not _is_batcher(prompt, link[0])
        ]
    return list(done)


def _is_batcher(prompt: Graph, node_id: str) -> bool:
    return prompt[node_id].get("class_type") in _BATCHERS


def _entry(prompt: Graph, node_id: str, places: Mapping[str, int], is_saver: bool) -> str:
    def shown(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return "@" + value
        if not is_link(value):
            return portable(value)
        if value[0] in prompt and _is_batcher(prompt, value[0]):
            return FROM_RECORD
        return f"@{places.get(value[0], 'missing')}.{value[1]}"

    inputs = _inputs(prompt, node_id, is_saver)
    node = {str(prompt[node_id].get("class_type")): {key: shown(inputs[key]) for key in inputs}}
    return json.dumps(portable(node), ensure_ascii=False)
