"""WordNet's database files: senses of names however they are written, and how near they are."""

import pytest

from comfy_nodes.errors import PlanError
from comfy_nodes.language.wordnet import MOST_SENSES, WordNet
from tests.wordnet_files import write_wordnet

SENSES = {
    "entity": (["entity"], "that which exists", []),
    "animal": (["animal", "beast"], "a living thing that moves", ["entity"]),
    "machine": (["machine"], "a device", ["entity"]),
    "bird": (["bird"], 'has wings; "it flew"', ["animal"]),
    "lift": (["crane"], 'lifts heavy objects; "it turned"', ["machine"]),
    "wader": (["crane", "long-legged crane"], "a large bird", ["bird"]),
    "heron": (["heron"], "a grey bird", ["bird", "machine"]),
    "lily": (["lily of the valley"], "a plant with white bells", ["entity"]),
    "alone": (["void"], "of no kind", []),
}


@pytest.fixture
def nouns(tmp_path):
    nouns = WordNet(tmp_path)
    nouns.offsets = write_wordnet(tmp_path, SENSES)
    return nouns


def test_senses_come_in_order_without_examples(nouns):
    assert [each.text for each in nouns.senses("Crane")] == [
        "crane: lifts heavy objects", "crane, long-legged crane: a large bird",
    ]  # fmt: skip
    assert nouns.senses("unicorn") == []


@pytest.mark.parametrize("name", ["lily of the valley", "lily-valley", "Lily_Valley", "lilyvalley"])
def test_names_are_found_however_they_are_joined(nouns, name):
    assert [each.text for each in nouns.senses(name)] == [
        "lily of the valley: a plant with white bells"
    ]


def test_at_most_twelve_senses_are_returned(tmp_path):
    write_wordnet(tmp_path, {str(n): (["run"], f"sense {n}", []) for n in range(MOST_SENSES + 3)})
    assert len(WordNet(tmp_path).senses("run")) == MOST_SENSES


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("wader", "wader", 1.0),
        ("wader", "bird", 2 * 3 / (2 * 3 + 1)),
        ("wader", "heron", 2 * 3 / (2 * 3 + 2)),
        ("wader", "lift", 2 * 1 / (2 * 1 + 3 + 2)),
        ("heron", "lift", 2 * 2 / (2 * 2 + 1 + 1)),  # by its other parent
        ("wader", "alone", 0.0),
    ],
)
def test_similarity_is_wu_and_palmers(nouns, one, other, near):
    first, second = nouns.offsets[one], nouns.offsets[other]
    assert nouns.similarity(first, second) == pytest.approx(near)
    assert nouns.similarity(second, first) == pytest.approx(near)


def test_files_that_are_missing_or_damaged_are_named(nouns, tmp_path):
    with pytest.raises(PlanError, match=r"cannot read WordNet in .*index\.noun and data\.noun"):
        WordNet(tmp_path / "nowhere").senses("crane")
    text = (tmp_path / "data.noun").read_bytes()
    (tmp_path / "data.noun").write_bytes(b"x" + text)
    with pytest.raises(PlanError, match="damaged"):
        WordNet(tmp_path).senses("crane")


def test_a_circle_of_senses_is_damage_not_an_endless_walk(tmp_path):
    offsets = write_wordnet(tmp_path, {"a": (["a"], "x", ["b"]), "b": (["b"], "y", ["a"])})
    with pytest.raises(PlanError, match="damaged"):
        WordNet(tmp_path).similarity(offsets["a"], offsets["b"])
