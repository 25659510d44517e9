"""The data set card counts what is there, and a card that somebody wrote by hand is left alone."""

from dataclasses import replace

import pytest
import yaml

from comfy_nodes.labelset.card import CARD_MARK, Tally, data_set_card, yaml_text
from tests.comfy_nodes.labelset.helpers import add_images, make_record


def test_the_card_counts_images_and_a_handwritten_card_is_left_alone(tmp_path):
    folder = add_images(tmp_path, 3)
    folder.write_card()
    card = tmp_path / "README.md"
    assert "| bat | 2 |" in card.read_text(encoding="utf-8")
    card.write_text("my own words")
    folder.write_card()
    assert card.read_text() == "my own words"


def test_a_record_taken_out_again_leaves_no_trace():
    tally = Tally()
    tally.add(make_record(0, "bat"))
    before = data_set_card(tally)
    other = replace(make_record(1, "owl", "ffffffffffff"), settings={"steps": 9}, source_image="x")
    tally.add(other)
    assert data_set_card(tally) != before
    tally.add(other, -1)
    assert data_set_card(tally) == before


def test_the_card_says_how_the_images_were_made():
    tally = Tally()
    tally.add(make_record(0, "a|b"))
    tally.add(replace(make_record(1, "bat"), source_image="bat/IMG 7.jpg"))
    card = data_set_card(tally)
    assert CARD_MARK in card
    assert "2 images of 2 classes" in card
    assert "1 of them also from a real image" in card
    assert "| a\\|b | 1 |" in card
    assert "Plans: `0123456789ab`" in card
    assert '- `{"steps": 20}`' in card


def test_model_files_and_nodes_have_lines_of_their_own():
    settings = {"steps": 9, "files": ["loras/ink sha256:1"], "chain": ['{"A": {}}', '{"B": {}}']}
    tally = Tally()
    tally.add(replace(make_record(), settings=settings))
    card = data_set_card(tally)
    assert "(`chain`)" in card
    assert (
        '- `{"steps": 9}`\n'
        "  - file `loras/ink sha256:1`\n"
        '  - node 0 `{"A": {}}`\n'
        '  - node 1 `{"B": {}}`\n'
    ) in card


def test_the_card_of_an_older_folder_stays_as_it_was():
    tally = Tally()
    tally.add(make_record())
    assert "chain" not in data_set_card(tally)


def test_settings_that_differ_with_every_batch_do_not_make_the_card_grow_without_end():
    tally = Tally()
    for steps in range(500):
        tally.add(replace(make_record(steps), settings={"steps": steps}))
    card = data_set_card(tally)
    assert card.count("- `{") == 20
    assert "- and 480 more, in `metadata.jsonl`" in card
    for steps in range(500):
        tally.add(replace(make_record(steps), settings={"steps": steps}), -1)
    tally.add(replace(make_record(1), settings={"steps": 1}))
    assert '- `{"steps": 1}`\n' in data_set_card(tally)
    assert "more, in" not in data_set_card(tally)


@pytest.mark.parametrize("chain", [None, "text", {"a": 1}, 3])
def test_a_servers_chain_of_another_shape_is_shown_as_any_setting(chain):
    tally = Tally()
    tally.add(replace(make_record(), settings={"chain": chain}))
    assert "chain" in data_set_card(tally)


@pytest.mark.parametrize(
    "text", ['"\\', "a\nb: c\n---\n", "\x07\x85\u2028\ufeff", "蝙蝠 🦇", "1", ""]
)
def test_any_class_name_survives_yaml(text):
    assert yaml.safe_load(yaml_text(text)) == text
