"""Captions from files and texts: kept letter for letter, or refused with the line that is wrong."""

import json

import pytest

from comfy_nodes.errors import PlanError
from comfy_nodes.plan.captions import (
    LONGEST_CAPTION,
    Captions,
    parse_captions,
    part_of,
    read_captions,
)

ODD = [
    "蝙蝠在黄昏 🦇",
    'a sign that says "no {entry}"',
    "{red|blue} __color__ {class}",
    "# not a comment",
    "(red:1.3), a | b",
    "x" * 10_000,
    "it's 5' tall; a,b",
]


def pairs(captions):
    return [(captions.caption(each), captions.label(each)) for each in range(captions.total)]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_line_of_text_is_a_caption_letter_for_letter_but_for_blanks_around_it(tmp_path):
    text = "\ufeff" + "\r\n \r\n".join(f"  {each}\t" for each in ODD) + "\n\n"
    assert pairs(read_captions(write(tmp_path / "a.txt", text))) == [
        (each, "captions") for each in ODD
    ]
    assert pairs(parse_captions(text, " street ")) == [(each, "street") for each in ODD]


def test_old_macintosh_line_ends_and_other_separators_of_lines_are_told_apart(tmp_path):
    found = read_captions(write(tmp_path / "a.txt", "one\rtwo\u2028still two\x85\n"))
    assert [caption for caption, _ in pairs(found)] == ["one", "two\u2028still two"]


def test_csv_has_a_caption_column_and_optionally_a_label_column(tmp_path):
    rows = 'Label, CAPTION ,file\n\ndog,"a dog, asleep",1\n,"two ""dogs""\nin snow",2\n'
    assert pairs(read_captions(write(tmp_path / "a.csv", rows), "rest")) == [
        ("a dog, asleep", "dog"),
        ('two "dogs"\nin snow', "rest"),
    ]
    table = write(tmp_path / "a.tsv", "caption\nred, blue\n")
    assert pairs(read_captions(table)) == [("red, blue", "captions")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_json_lines_have_a_caption_and_optionally_a_label(tmp_path, name):
    lines = [{"caption": each, "label": f"l{n % 2}", "id": n} for n, each in enumerate(ODD)]
    lines += [{"caption": " bare "}, {"caption": "none", "label": None}]
    text = "\n\n".join(json.dumps(each, ensure_ascii=False) for each in lines)
    found = pairs(read_captions(write(tmp_path / name, text)))
    assert found[:-2] == [(each, f"l{n % 2}") for n, each in enumerate(ODD)]
    assert found[-2:] == [("bare", "captions"), ("none", "captions")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", " \n\n", "has no captions"),
        ("a.csv", "label,caption\n", "has no captions"),
        ("a.txt", "one\n\ntwo\x07", r"line 3: the control character '\\x07'"),
        ("a.txt", "y" * (LONGEST_CAPTION + 1), "line 1: 20001 characters"),
        ("a.csv", "label,text\ndog,x\n", "no column 'caption' in line 1"),
        ("a.csv", "label,caption\ndog,a, b\n", "line 2 has 3 cells, and the header 2"),
        ("a.csv", "label,caption\ndog,\n", "line 2: there is no caption"),
        ("a.csv", 'caption\n"a" b\n', "line 2 is not valid CSV"),
        ("a.jsonl", '{"caption": "x"}\n{"caption": "y"\n', "line 2 is not valid JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not valid JSON"),
        ("a.jsonl", '{"caption": ' + "9" * 5000 + "}", "line 1 is not valid JSON"),
        ("a.jsonl", '["x"]\n', "line 1: expected"),
        ("a.jsonl", '{"caption": 7}\n', "line 1: expected"),
        ("a.jsonl", '{"caption": "x", "label": 7}\n', "line 1: expected"),
        ("a.jsonl", '{"text": "x"}\n', "line 1: expected"),
        ("a.jsonl", '\n{"caption": " "}\n', "line 2: there is no caption"),
        ("a.jsonl", '{"caption": "\\u0000"}\n', r"line 1: the control character '\\x00'"),
        ("a.jsonl", '{"caption": "half \\ud83d"}\n', "line 1: this is not UTF-8"),
        ("a.jsonl", '{"caption": "x", "label": "\\ud83d"}\n', "line 1: this is not UTF-8"),
    ],
)
def test_a_message_names_the_file_and_the_line(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(PlanError, match=message) as caught:
        read_captions(path)
    assert str(path) in str(caught.value)


def test_another_encoding_is_named_with_its_line(tmp_path):
    latin = tmp_path / "a.txt"
    latin.write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(PlanError, match="line 2: this is not UTF-8 text; save the file as UTF-8"):
        read_captions(latin)
    with pytest.raises(PlanError, match="line 1: this is not UTF-8"):
        read_captions(write(tmp_path / "b.txt", "one\n", "utf-16"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(PlanError, match="does not exist; give a text file"):
        read_captions(tmp_path / "none.txt")
    with pytest.raises(PlanError, match="cannot read captions file"):
        read_captions(tmp_path)


def test_a_typed_text_is_json_lines_only_if_it_begins_like_one():
    assert pairs(parse_captions('{"caption": "x", "label": "y"}')) == [("x", "y")]
    assert pairs(parse_captions("{red|blue} bus\n[x]")) == [
        ("{red|blue} bus", "captions"),
        ("[x]", "captions"),
    ]
    with pytest.raises(PlanError, match=r"^captions line 2 is not valid JSON"):
        parse_captions('{"caption": "x"}\ny')


def test_the_digest_follows_from_captions_labels_and_order_alone():
    text = parse_captions("a\nb")
    assert text == parse_captions('{"caption": "a"}\n{"caption": "b", "label": "captions"}')
    others = [parse_captions(each) for each in ("b\na", "a\nb\nb", "a", "ab", "a\nB")]
    others += [parse_captions("a\nb", "c"), Captions([("a", "captionsb")]), Captions([])]
    assert len({each.digest for each in (text, *others)}) == 9
    assert text != others[0]
    assert hash(text) == hash(parse_captions("a\nb"))


def test_a_part_has_the_same_captions_under_the_same_numbers_and_no_others():
    whole = Captions((each, f"label {n % 3}") for n, each in enumerate(ODD))
    part = part_of("".join(whole.part(5, 4).lines()), whole.part(5, 4).part_text())
    assert (part.total, part.digest, part.first, part.held) == (7, whole.digest, 5, 4)
    for number in (5, 6, 0, 1):
        assert part.caption(number) == whole.caption(number)
        assert part.label(number) == whole.label(number)
    with pytest.raises(PlanError, match="caption 2 is not in this part"):
        part.caption(2)
    assert part != whole
    assert whole.part(3, 100).held == 7


@pytest.mark.parametrize(
    "part",
    [
        "x",
        "[]",
        "{}",
        '{"captions": 2, "first": 2, "sha256": "%s"}' % ("a" * 64),
        '{"captions": 2.0, "first": 0, "sha256": "%s"}' % ("a" * 64),
        '{"captions": 2, "first": 0, "sha256": "abc"}',
        '{"captions": 2, "first": 0, "sha256": 7}',
    ],
)
def test_a_part_that_the_client_did_not_write_is_refused(part):
    with pytest.raises(PlanError, match="part is written by the SynthGrid client"):
        part_of("a", part)


def test_a_part_cannot_have_more_captions_than_there_are():
    part = parse_captions("a\nb").part_text()
    with pytest.raises(PlanError, match="says that there are 2 captions, but here are 3"):
        part_of("a\nb\nc", part)


def test_captions_are_counted_by_label():
    captions = Captions([("a", "x"), ("b", "y"), ("c", "x")])
    assert dict(captions.counts()) == {"x": 2, "y": 1}
    assert dict(captions.counts(1, 2)) == {"y": 1}
