"""A record is one line of JSON and lives inside its image too; anything else is refused."""

import json
from dataclasses import asdict, replace

import pytest
from PIL import Image

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, encode_image, inspect_image, read_record
from comfy_nodes.labelset.images.imagefile import ImageFormat
from tests.comfy_nodes.labelset.helpers import make_record


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "nope",
        '{"file_name": 3}',
        json.dumps(asdict(make_record()) | {"seed": "1"}),
        json.dumps(asdict(make_record()) | {"attempt": "1"}),
        json.dumps(asdict(make_record()) | {"attempt": None}),
        json.dumps(asdict(make_record()) | {"attempt": True}),
    ],
)
def test_a_malformed_record_is_refused(text):
    with pytest.raises(LabelsetError):
        ImageRecord.from_json(text)


def test_a_record_of_a_newer_version_is_read():
    assert ImageRecord.from_json(json.dumps(asdict(make_record()) | {"new": 1})) == make_record()


def test_a_truncated_image_is_refused(tmp_path):
    data = encode_image(Image.new("RGB", (64, 64)), make_record())
    with pytest.raises(LabelsetError, match="not a whole image"):
        read_record(data[: len(data) // 2])


def test_a_record_survives_a_trip_through_json():
    record = replace(make_record(), context="at dusk", source_image="bat/IMG 7.jpg")
    assert "\n" not in record.to_json()
    assert ImageRecord.from_json(record.to_json()) == record


def test_the_attempt_is_written_only_where_there_is_one():
    """So that records, and the images around them, are to the byte as they were before."""
    first, third = make_record(), replace(make_record(), attempt=2)
    assert first.to_json() == (
        '{"file_name": "bat/0123456789ab-000000.png", "label": "bat", "prompt": "a photo of a bat",'
        ' "negative_prompt": "", "seed": 0, "index": 0, "plan_id": "0123456789ab", "template": "",'
        ' "context": null, "style": null, "source_image": null, "source_sha256": null,'
        ' "settings": {"steps": 20}, "sha256": ""}'
    )
    assert "attempt" not in first.to_dict()
    assert third.to_json() == first.to_json()[:-1] + ', "attempt": 2}'
    assert ImageRecord.from_json(third.to_json()) == third
    odd = replace(third, settings={"x": float("nan")})
    assert ImageRecord.from_json(odd.to_json()).attempt == 2


def test_inspecting_an_image_gives_its_record_and_its_width_and_height():
    data = encode_image(Image.new("RGB", (30, 20)), make_record())
    assert inspect_image(data) == (read_record(data), (30, 20))


def test_an_image_without_a_record_is_no_error(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    assert read_record(data) is None
    assert inspect_image(data) == (None, (30, 20))


NAN, HALF = float("nan"), "b\ud800t"


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        ({"cfg": NAN}, {"cfg": None}),
        ({"cfg": float("-inf"), "more": [1, [NAN]]}, {"cfg": None, "more": [1, [None]]}),
        ({"lora": HALF, "more": {"x": NAN}}, {"lora": "b\ufffdt", "more": {"x": None}}),
        ({"lora": "蝙蝠 🦇"}, {"lora": "蝙蝠 🦇"}),
        ({"chain": ["a", "蝙"]}, {"chain": ["a", "蝙"]}),
        ({"chain": ["a", HALF]}, {"chain": ["a", "b\ufffdt"]}),
        ({"chain": ["a", NAN]}, {"chain": ["a", None]}),
        ({"chain": ("a", "b")}, {"chain": ["a", "b"]}),
    ],
)
def test_whatever_the_settings_are_a_record_is_strict_json(settings, held):
    """What is read back from the file, from the line and from a server's answer is equal."""
    record = replace(make_record(), settings=settings, source_image=settings.get("lora"))
    text = record.to_json()
    strict = json.loads(text.encode("utf-8"), parse_constant=pytest.fail)
    assert strict["settings"] == held
    for how in ("PNG", "WebP", "JPEG"):
        data = encode_image(Image.new("RGB", (8, 8)), record, ImageFormat(how))
        assert replace(read_record(data), sha256="") == ImageRecord.from_json(text)
    assert ImageRecord.from_dict(vars(record)) == ImageRecord.from_json(text)
    assert ImageRecord.from_json(json.dumps(asdict(record))) == ImageRecord.from_json(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"seed": ' + "9" * 5000 + "}", '{"a":' * 5000])
def test_a_line_that_json_cannot_read_is_refused_in_words(text):
    with pytest.raises(LabelsetError, match="not a record"):
        ImageRecord.from_json(text)


def test_settings_nested_too_deeply_are_refused_in_words():
    deep = {"x": 1}
    for _ in range(900):
        deep = {"x": deep}
    with pytest.raises(LabelsetError, match="50 deep"):
        ImageRecord.from_dict(asdict(make_record()) | {"settings": deep})
