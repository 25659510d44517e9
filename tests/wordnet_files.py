"""A small WordNet in the form of its database files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# By key: the words, the gloss, and the keys of what it is a kind of.
Senses = Mapping[str, tuple[Sequence[str], str, Sequence[str]]]


def write_wordnet(folder: Path, senses: Senses) -> dict[str, int]:
    """Writes index.noun and data.noun; the offset of each sense by its key."""
    offsets = dict.fromkeys(senses, 0)
    for _ in range(2):  # offsets have eight digits, so the second time they are right
        data = "  1 a licence\n"
        for key, (words, gloss, parents) in senses.items():
            offsets[key] = len(data.encode())
            listed = " ".join(f"{word.replace(' ', '_')} 0" for word in words)
            pointers = "".join(f" @ {offsets[parent]:08d} n 0000" for parent in parents)
            data += (
                f"{offsets[key]:08d} 05 n {len(words):02x} {listed} {len(parents):03d}{pointers} "
                f"| {gloss}  \n"
            )
    by_lemma: dict[str, list[str]] = {}
    for key, (words, _, _) in senses.items():
        for word in words:
            by_lemma.setdefault(word.lower().replace(" ", "_"), []).append(f"{offsets[key]:08d}")
    index = "  1 a licence\n" + "".join(
        f"{lemma} n {len(places)} 1 @ {len(places)} 1 {' '.join(places)}  \n"
        for lemma, places in sorted(by_lemma.items())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.noun").write_text(data, encoding="utf-8", newline="\n")
    (folder / "index.noun").write_text(index, encoding="utf-8", newline="\n")
    return offsets
