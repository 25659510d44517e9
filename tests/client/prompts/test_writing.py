"""Banks written by a model: a scripted endpoint on loopback, which also misbehaves.

Covers: client.prompts.writing, client.prompts.asking, client.prompts.endpoint,
client.prompts.answers, client.commands.bank.
"""

import json
import subprocess
import sys
import threading

import pytest

from client.__main__ import main
from client.errors import ClientError, FolderError, RunIncomplete, ServerError, ServerRefused
from client.prompts.answers import Answers
from client.prompts.asking import Asked
from client.prompts.endpoint import ChatEndpoint
from client.prompts.writing import MOST_SAMPLES, write_bank
from comfy_nodes.banks.prompt_bank import read_prompt_bank
from comfy_nodes.plan import ClassEntry
from tests.client.prompts.scripted import Endpoint, completion

CLASSES = (ClassEntry("crane", "a large bird"), ClassEntry("bat"))
NOUNS = [
    "river",
    "marsh",
    "field",
    "barn",
    "tower",
    "desert",
    "harbour",
    "garden",
    "street",
    "attic",
    "cellar",
    "bridge",
]


def phrases(body, count=12):
    """Distinct phrases that depend on the question and its seed, as a model's would."""
    seed = body["seed"]
    return [f"beside a {noun} number {seed * 100 + number}" for number, noun in enumerate(NOUNS)][
        :count
    ]


def good(body):
    content = {
        "meanings": ["a bird", "a machine"],
        "contexts": phrases(body),
        "styles": ["etching"],
    }
    return 200, completion(json.dumps(content))


def write(endpoint, path, *, classes=CLASSES, asked=None, **options):
    model = ChatEndpoint(endpoint.url, pauses_s=(0.01,), **options)
    try:
        return write_bank(classes, model, Answers(path), asked or Asked("m", contexts=10, styles=1))
    finally:
        model.close()


def fails(body):
    raise AssertionError("nothing may be asked")


def test_a_bank_has_what_was_asked_for_and_says_where_it_is_from(tmp_path):
    with Endpoint(good) as endpoint:
        bank = write(endpoint, tmp_path / "a.jsonl")
    crane = bank.classes["crane"]
    assert (len(crane.contexts), crane.styles, crane.definition) == (
        10,
        ("etching",),
        "a large bird",
    )
    assert [each.text for each in crane.meanings] == ["a bird", "a machine"]
    assert bank.classes["bat"].definition == ""
    assert bank.provenance["model"] == "m"
    asked = endpoint.bodies[0]["messages"][1]["content"]
    assert "The class: crane" in asked
    assert "What it is here: a large bird" in asked
    assert "Never name another class: bat" in asked
    assert endpoint.bodies[0]["response_format"]["type"] == "json_schema"


def test_the_second_run_asks_nothing_and_gives_the_same_bank(tmp_path):
    path = tmp_path / "a.jsonl"
    with Endpoint(good) as endpoint:
        first = write(endpoint, path)
        asked = len(endpoint.bodies)
        assert asked == 2
    with Endpoint(fails) as endpoint:
        assert write(endpoint, path) == first
        assert endpoint.bodies == []


def test_other_questions_are_asked(tmp_path):
    path = tmp_path / "a.jsonl"
    with Endpoint(good) as endpoint:
        for changes in ({}, {"seed": 1}, {"temperature": 0.5}, {"model": "n"}):
            values = {"model": "m", "contexts": 10, "styles": 1} | changes
            write(endpoint, path, classes=CLASSES[:1], asked=Asked(**values))
        assert len(endpoint.bodies) == 4
        assert endpoint.bodies[1]["seed"] == 1


def test_too_few_phrases_are_asked_for_again_with_another_seed(tmp_path):
    def few(body):
        content = {"meanings": [], "contexts": phrases(body, 4), "styles": ["etching"]}
        return 200, completion(json.dumps(content))

    with Endpoint(few) as endpoint:
        bank = write(endpoint, tmp_path / "a.jsonl", classes=CLASSES[:1])
    assert [body["seed"] for body in endpoint.bodies] == [0, 1, 2]
    assert len(bank.classes["crane"].contexts) == 10


BAD = {
    "malformed": (lambda body: (200, completion("{not json")), "is not JSON"),
    "truncated": (lambda body: (200, completion('{"contexts": [', "length")), "was cut off"),
    "refusing": (lambda body: (200, completion("I cannot help with that.")), "is not JSON"),
    "other shape": (lambda body: (200, completion("[1, 2]")), "has not the lists"),
    "deep": (lambda body: (200, completion("[" * 100_000)), "is not JSON"),
    "empty": (lambda body: (200, completion("")), "is not JSON"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_a_bad_answer_is_asked_again_and_a_model_that_gives_no_other_is_named(
    tmp_path, bad, message
):
    with Endpoint(bad, good) as endpoint:
        bank = write(endpoint, tmp_path / "a.jsonl")
        assert len(bank.classes["crane"].contexts) == 10
        assert len(endpoint.bodies) == 3
    with Endpoint(bad) as endpoint:
        with pytest.raises(ClientError, match=f"model m gave no usable .*'crane'.*{message}"):
            write(endpoint, tmp_path / "b.jsonl")
        assert len(endpoint.bodies) == MOST_SAMPLES


def test_what_may_not_be_in_a_bank_is_dropped_and_counted(tmp_path):
    leaking = {
        "meanings": [],
        "contexts": ["next to a Bat", "under bats", "in {red|blue} light", "a\x00b", "", 7],
        "styles": ["etching"],
    }
    with (
        Endpoint(lambda body: (200, completion(json.dumps(leaking)))) as endpoint,
        pytest.raises(ClientError, match=r"8 names another class, .*4 special syntax"),
    ):
        write(endpoint, tmp_path / "a.jsonl")


REFUSED = {
    "no such model": (lambda body: (404, {"error": "no m"}), "HTTP 404.*check the address"),
    "no key": (lambda body: (401, {"error": "who"}), "HTTP 401.*--token-env"),
    "not a chat": (lambda body: (200, {"hello": 1}), "did not answer with a chat completion"),
    "a page": (lambda body: (200, b"<html>"), "not JSON|a page"),
    "a redirect": (lambda body: (302, {}), "redirect"),
    "busy": (lambda body: (503, {}), "HTTP 503"),
}


@pytest.mark.parametrize(("answer", "message"), REFUSED.values(), ids=REFUSED)
def test_a_server_that_refuses_is_one_clear_line(tmp_path, answer, message):
    with Endpoint(answer) as endpoint, pytest.raises(ServerError, match=message) as refused:
        write(endpoint, tmp_path / "a.jsonl")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "a.jsonl").exists()


def test_a_busy_server_is_asked_again(tmp_path):
    with Endpoint(lambda body: (429, {}), good) as endpoint:
        assert write(endpoint, tmp_path / "a.jsonl").classes["bat"].contexts
        assert len(endpoint.bodies) == 3


def test_a_server_that_does_not_take_a_schema_is_asked_without_it(tmp_path):
    def picky(body):
        return (400, {"error": "schema?"}) if "response_format" in body else good(body)

    with Endpoint(picky) as endpoint:
        assert write(endpoint, tmp_path / "a.jsonl").classes["bat"].contexts
        assert ["response_format" in body for body in endpoint.bodies] == [True, False, False]


def test_a_huge_answer_is_not_read_to_its_end(tmp_path):
    with Endpoint(lambda body: (200, b" " * (65 * 2**20))) as endpoint, pytest.raises(ServerError):
        write(endpoint, tmp_path / "a.jsonl")


def test_a_line_that_a_crash_cut_off_is_asked_again_and_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    with Endpoint(good) as endpoint:
        first = write(endpoint, path)
        path.write_bytes(path.read_bytes()[:-20])
        assert write(endpoint, path) == first
        assert len(endpoint.bodies) == 3
        assert len(Answers(path)) == 2


@pytest.mark.parametrize("line", ["[]", '{"key": 1}', "x", '{"key": "a", "text": "b"}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(FolderError, match="line 1 is not an answer"):
        Answers(path)


@pytest.fixture
def class_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("crane: a large bird\nbat\n", encoding="utf-8")
    return path


def command(class_file, *more):
    return ["bank", str(class_file), "--contexts", "10", "--styles", "1", *map(str, more)]


def test_the_command_writes_the_same_bytes_again_without_a_server(
    class_file, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "bank.json"
    monkeypatch.setenv("KEY", "s3cret-token")
    with Endpoint(good) as endpoint:
        asked = command(class_file, "--llm", endpoint.url, "--model", "m", "--out", out)
        assert main([*asked, "--token-env", "KEY"]) == 0
        assert endpoint.headers[0]["Authorization"] == "Bearer s3cret-token"
    first = out.read_bytes()
    assert "2 of 2 classes: bat, 10 contexts" in capsys.readouterr().err
    assert main([*asked, "--json"]) == 0  # the server is gone
    assert json.loads(capsys.readouterr().out)["classes"]["bat"]["contexts"] == 10
    assert out.read_bytes() == first
    assert len(read_prompt_bank(out).classes) == 2
    for path in tmp_path.iterdir():
        assert b"s3cret" not in path.read_bytes()


def test_a_bank_that_a_person_changed_is_not_replaced_unasked(class_file, tmp_path, capsys):
    out = tmp_path / "bank.json"
    out.write_text("{}", encoding="utf-8")
    asked = command(class_file, "--offline", "--out", out)
    assert main(asked) == 1
    assert "exists and says something else" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "{}"
    assert main([*asked, "--overwrite"]) == 0
    assert main(asked) == 0


def test_a_budget_ends_the_run_and_the_next_one_goes_on(class_file, tmp_path, capsys):
    out = tmp_path / "bank.json"
    with Endpoint(good) as endpoint:
        asked = command(class_file, "--llm", endpoint.url, "--model", "m", "--out", out)
        assert main([*asked, "--budget-calls", "1"]) == 1
        assert "budget of 1 requests is used up" in capsys.readouterr().err
        assert not out.exists()
        assert main([*asked, "--budget-calls", "1"]) == 0
        assert len(endpoint.bodies) == 2


def test_a_killed_run_asks_nothing_twice(class_file, tmp_path):
    out, answered = tmp_path / "bank.json", threading.Event()

    def hang(body):
        answered.set()
        threading.Event().wait(20)
        return good(body)

    with Endpoint(good, hang, good) as endpoint:
        asked = command(class_file, "--llm", endpoint.url, "--model", "m", "--out", out)
        process = subprocess.Popen([sys.executable, "-m", "client", *asked])
        assert answered.wait(30)
        process.kill()
        process.wait(10)
        assert main(asked) == 0
        questions = [body["messages"][1]["content"] for body in endpoint.bodies]
        assert [text.splitlines()[0] for text in questions] == [
            "The class: crane", "The class: bat", "The class: bat",
        ]  # fmt: skip


def test_a_dry_run_shows_the_questions_and_a_bound_and_asks_nothing(class_file, capsys):
    asked = command(class_file, "--dry-run", "--model", "m")
    assert main([*asked, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (len(value["questions"]), value["most_calls"]) == (2, 8)
    assert value["most_tokens"] > 8 * Asked("m", 10, 1).max_tokens
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "--- crane" in out
    assert "at most 8 calls" in out


def test_wrong_usage_is_refused(class_file, capsys):
    for more in ((), ("--llm", "http://127.0.0.1:9/v1")):
        with pytest.raises(SystemExit) as ended:
            main(command(class_file, *more))
        assert ended.value.code == 2
    assert main(["bank", str(class_file), "--dry-run", "--model", "m", "--contexts", "-1"]) == 1


def test_errors_are_of_the_one_tree():
    assert issubclass(RunIncomplete, ClientError)
    assert issubclass(ServerRefused, ClientError)
