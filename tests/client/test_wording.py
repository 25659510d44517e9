"""What a server says, as it may be shown: without secrets, and without power over a terminal."""

import html
import json
from urllib.parse import quote

import pytest

from client.wording import HIDDEN, hide, printable

TOKEN = 'a-"token"/of mine'


@pytest.mark.parametrize(
    "spelled",
    [
        TOKEN,
        json.dumps(TOKEN),
        json.dumps(json.dumps(TOKEN)),
        "".join(f"\\u{ord(each):04X}" for each in TOKEN),
        TOKEN.replace("/", "\\/"),
        quote(TOKEN, safe=""),
        "".join(f"%{ord(each):02x}" for each in TOKEN),
        html.escape(TOKEN),
        "".join(f"&#{ord(each)};" for each in TOKEN),
        TOKEN.replace(" ", "\n"),
    ],
)
def test_a_secret_is_hidden_however_it_is_spelled(spelled):
    assert hide(f"you sent {spelled}!", [TOKEN]).replace('"', "").replace("\\", "") == (
        f"you sent {HIDDEN}!"
    )


def test_a_short_secret_is_hidden_only_where_it_stands_alone():
    assert hide("often ten; kitten", ["ten"]) == f"often {HIDDEN}; kitten"


def test_a_secret_that_holds_another_is_hidden_whole():
    assert hide("abcdefgh-12345678", ["abcdefgh", "abcdefgh-12345678"]) == HIDDEN


def test_nothing_is_hidden_without_a_secret():
    assert hide("as it is", []) == "as it is"


@pytest.mark.parametrize("bad", ["\x1b", "\x07", "\x08", "\x9b", "\x7f", "\r", "\u202e", "\ud800"])
def test_a_control_character_is_spelled_out(bad):
    shown = printable(f"red{bad}[31m")
    assert bad not in shown
    assert shown.startswith("red")
    assert shown.endswith("[31m")


def test_text_of_any_language_stays_as_it_is_on_one_line():
    assert printable("蝙蝠, Bär\n\tيمامة 🐝") == "蝙蝠, Bär  يمامة 🐝"
