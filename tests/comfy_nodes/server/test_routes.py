"""What the browser learns about a plan: counts, next prompts, existing images, or what is wrong."""

import asyncio
import json
import sys
import types
import urllib.error
import urllib.request

import pytest
from aiohttp import web

from comfy_nodes import host
from comfy_nodes.plan import GenerationPlan, PromptTemplates, parse_classes
from comfy_nodes.server import routes

TEXTS = {
    "templates": "a {class} {context}",
    "negative_prompt": "",
    "contexts": "at night\nat noon",
    "styles": "",
}


def asked(classes="bat\nbear\nbee", batch_index=0, **more):
    batcher = {"images_per_class": 4, "batch_size": 5, "plan_seed": 7, "batch_index": batch_index}
    return {
        "classes": {"classes": classes, "path": ""},
        "templates": TEXTS,
        "batcher": batcher,
    } | more


def plan():
    return GenerationPlan(
        parse_classes("bat\nbear\nbee"),
        PromptTemplates(("a {class} {context}",), "", ("at night", "at noon")),
        4,
        7,
    )


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", tmp_path)
    return tmp_path


def test_counts_and_rows_are_those_of_the_plan():
    answer = routes.preview(asked(batch_index=2))
    assert (answer["classes"], answer["images"], answer["batches"], answer["batch_images"]) == (
        3,
        12,
        3,
        2,
    )
    assert answer["rows"] == [
        {"label": row.label, "prompt": row.prompt} for row in plan().batch(2, 5)
    ]
    assert "done" not in answer


def test_while_one_of_each_is_tried_counts_rows_and_batches_are_those_of_the_try(output):
    request = asked(folder="animals")
    request["batcher"]["try_one_of_each"] = True
    answer = routes.preview(request)
    assert (answer["images_per_class"], answer["images"], answer["batches"]) == (1, 3, 1)
    assert answer["whole"] == 12
    assert [row["prompt"] for row in answer["rows"]] == [row.prompt for row in plan().batch(0, 3)]
    first = plan().row(0)
    image = output / "animals" / first.label / f"{plan().plan_id}-000000.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    request["batcher"]["batch_index"] = 7  # it counts up with every run; a try goes round
    answer = routes.preview(request)
    assert [row["label"] for row in answer["rows"]] == ["bear", "bee"]
    assert (answer["batch_index"], answer["batch_existing"]) == (0, 1)
    del request["folder"]
    assert len(routes.preview(request)["rows"]) == 3
    request["folder"] = "animals"
    answer = routes.missing(request)
    assert (answer["images"], answer["missing"], answer["batches"]) == (3, 2, [0])
    request["batcher"]["try_one_of_each"] = False
    assert routes.missing(request)["missing"] == 11
    assert "whole" not in routes.preview(request)


def test_a_switch_is_true_or_false():
    request = asked()
    request["batcher"]["try_one_of_each"] = "yes"
    assert "must be true or false, not 'yes'" in routes.preview(request)["error"]


BANK = {
    "shared": {"contexts": ["at night", "at noon"], "styles": ["an etching"]},
    "classes": {
        "bee": {"definition": "an insect"},
        "bat": {"definition": "a mammal", "contexts": ["a", "b", "c"], "styles": ["d"]},
        "whale": {"contexts": ["in the sea"]},
    },
}


def test_a_bank_is_counted_for_each_class_of_the_plan_that_has_entries():
    answer = routes.preview(asked(templates=TEXTS | {"bank": json.dumps(BANK)}))
    assert answer["bank"] == {
        "shared": {"contexts": 2, "styles": 1},
        "own": 2,
        "others": 1,
        "classes": {
            "bat": {"definition": True, "contexts": 3, "styles": 1},
            "bee": {"definition": True, "contexts": 0, "styles": 0},
        },
    }
    assert list(answer["bank"]["classes"]) == ["bat", "bee"]  # in the order of the plan
    assert "bank" not in routes.preview(asked())


def test_a_bank_in_a_file_is_counted_too(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", tmp_path)
    (tmp_path / "bank.json").write_text(json.dumps(BANK), encoding="utf-8")
    answer = routes.preview(asked(templates=TEXTS | {"bank_file": "bank.json"}))
    assert (answer["bank"]["own"], answer["bank"]["others"]) == (2, 1)


def test_the_counts_of_a_large_bank_are_sent_in_part():
    names = [f"class {number}" for number in range(20)]
    bank = {"classes": {name: {"contexts": ["here"]} for name in names}}
    request = asked("\n".join(names), templates=TEXTS | {"bank": json.dumps(bank)})
    answer = routes.preview(request)["bank"]
    assert (answer["own"], answer["others"], len(answer["classes"])) == (20, 0, routes.MOST_CLASSES)


def test_a_finished_plan_has_no_next_rows_and_is_no_error():
    answer = routes.preview(asked(batch_index=3))
    assert (answer["rows"], answer["batch_images"], answer["batches"]) == ([], 0, 3)


def test_a_large_batch_is_shown_in_part():
    request = asked()
    request["batcher"] |= {"images_per_class": 100, "batch_size": 300}
    answer = routes.preview(request)
    assert (answer["batch_images"], len(answer["rows"])) == (300, routes.MOST_ROWS)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked(classes=""), "no classes"),
        (asked(classes="bat\nbat"), "more than once"),
        (asked(templates=TEXTS | {"contexts": ""}), "there are no contexts"),
        (asked(classes={}), "text"),
        (asked(templates={}), "templates must be text"),
        (asked(batcher={"images_per_class": 1.5, "plan_seed": 0}), "whole number"),
        (
            asked(
                batcher={"images_per_class": 1, "plan_seed": 0, "batch_size": 0, "batch_index": 0}
            ),
            "batch size is 0",
        ),
        (asked() | {"classes": {"classes": "", "path": "no\0path"}}, "null"),
        ({}, "'classes' must be an object"),
        ([], "'classes' must be an object"),
        (None, "'classes' must be an object"),
    ],
)
def test_an_invalid_plan_gets_a_sentence(request_, words):
    answer = routes.preview(request_)
    assert list(answer) == ["error"]
    assert words in answer["error"]


def test_done_counts_the_images_of_this_plan_per_class_wherever_they_are(output):
    made = [0, 1, 3, 11, 12, 300]  # 12 and 300 are past the plan's end
    for index in made:
        label = plan().row(index).label if index < 12 else "bat"
        path = (
            output
            / "set"
            / "deeper"
            / label
            / f"{plan().plan_id}-{index:06d}.{'webp' if index else 'png'}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    (output / "set" / "bat").mkdir()
    (output / "set" / "bat" / "0123456789ab-000002.png").write_bytes(b"of another plan")
    (output / "set" / "bat" / f".{plan().plan_id}-000006.png.0a0b0c0d.part").write_bytes(b"half")
    (output / "set" / "bat" / f"{plan().plan_id}-000009.png").touch()  # after a power cut
    answer = routes.preview(asked(folder="set"))
    assert answer["done"] == {"bat": 2, "bear": 1, "bee": 1}


def test_nothing_is_done_in_a_folder_that_does_not_exist_yet(output):
    assert routes.preview(asked(folder="new"))["done"] == {"bat": 0, "bear": 0, "bee": 0}
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("folder", ["", ".", "..", "../other", "/"])
def test_only_folders_inside_the_output_folder_are_looked_into(output, folder):
    assert "must be a folder inside" in routes.preview(asked(folder=folder))["error"]


def test_outside_comfyui_nothing_is_registered():
    assert "server" not in sys.modules
    routes.register()


def test_the_routes_answer_over_http_and_two_copies_of_the_pack_register_them_once(
    monkeypatch, output
):
    table = web.RouteTableDef()
    instance = types.SimpleNamespace(routes=table)
    server = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=instance))
    monkeypatch.setitem(sys.modules, "server", server)
    routes.register()
    routes.register()
    assert len(list(table)) == 2

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no test's proxy is ours

    def post(url, body):
        return json.load(opener.open(urllib.request.Request(url, data=body), timeout=10))

    async def exchange():
        app = web.Application()
        app.add_routes(table)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        url = root + routes.PATH
        body = json.dumps(asked(folder="set")).encode()
        try:
            good = [
                await asyncio.to_thread(post, root + path, body)
                for path in (routes.PATH, routes.MISSING_PATH)
            ]
            for body, status in (
                (b"{", "400"),
                (b"[" * 10**5, "400"),
                (b" " * (routes.LARGEST_BODY + 1), "413"),
            ):
                with pytest.raises(urllib.error.HTTPError, match=status):
                    await asyncio.to_thread(post, url, body)
            return good
        finally:
            await runner.cleanup()

    given = asked(folder="set")
    assert asyncio.run(exchange()) == [routes.preview(given), routes.missing(given)]


def test_the_next_rows_are_those_that_the_resume_folder_lacks(output):
    for index in (5, 7, 8, 11, 300):
        path = output / "set" / "style" / "class" / f"{plan().plan_id}-{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    request = asked(batch_index=1)
    request["batcher"]["resume_folder"] = " set "
    answer = routes.preview(request)
    assert [row["prompt"] for row in answer["rows"]] == [
        plan().row(index).prompt for index in (6, 9)
    ]
    assert (
        answer["batch_images"],
        answer["batch_existing"],
        answer["missing"],
        answer["resume_folder"],
    ) == (
        2,
        3,
        8,
        "set",
    )
    request["batcher"]["resume_folder"] = ""
    assert "missing" not in routes.preview(request)


def test_a_resume_folder_outside_the_output_folder_is_reported(output):
    request = asked()
    request["batcher"]["resume_folder"] = "../x"
    assert "must be a folder inside" in routes.preview(request)["error"]


def test_banks_come_from_files_too(output, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", output)
    (output / "places.txt").write_text("in the rain")
    answer = routes.preview(asked(templates=TEXTS | {"contexts_file": "places.txt"}))
    assert {row["prompt"][-11:] for row in answer["rows"]} == {"in the rain"}
    answer = routes.preview(asked(templates=TEXTS | {"contexts_file": "gone.txt"}))
    assert "gone.txt does not exist" in answer["error"]


def test_previews_draw_alternatives_and_wildcards():
    texts = TEXTS | {"templates": "a {class} __color__", "wildcards": "__color__:\nred\nblue"}
    answer = routes.preview(asked(templates=texts))
    assert {row["prompt"].split()[-1] for row in answer["rows"]} == {"red", "blue"}
    answer = routes.preview(asked(templates=TEXTS | {"templates": "{class} <lora:x:1>"}))
    assert "Load LoRA" in answer["error"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 4097),
        ("batch_size", 10**20),
        ("images_per_class", 1_000_001),
        ("plan_seed", 2**53),
        ("batch_index", 10**30),
    ],
)
def test_numbers_beyond_what_a_widget_takes_are_refused_before_any_row_is_made(output, name, value):
    given = asked()
    given["batcher"] |= {name: value}
    assert f"{name} must be a whole number from 0 to" in routes.preview(given)["error"]


def save(output, *indices):
    for index in indices:
        path = output / "set" / "class" / f"{plan().plan_id}-{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")


def test_exactly_the_unfinished_batches_are_missing(output):
    """12 images in batches of 5, 5 and 2."""
    answer = routes.missing(asked(folder=" set "))
    assert answer == {
        "folder": "set",
        "images": 12,
        "missing": 12,
        "batches": [0, 1, 2],
        "unfinished": 3,
    }
    save(output, 0, 1, 2, 3, 4, 10, 11, 300)
    answer = routes.missing(asked(folder="set"))
    assert (answer["missing"], answer["batches"], answer["unfinished"]) == (5, [1], 1)
    save(output, 5, 6, 7, 8, 9)
    answer = routes.missing(asked(folder="set"))
    assert (answer["missing"], answer["batches"], answer["unfinished"]) == (0, [], 0)


def test_the_resume_folder_comes_before_the_savers(output):
    save(output, *range(12))
    request = asked(folder="other")
    request["batcher"]["resume_folder"] = "set"
    assert routes.missing(request)["missing"] == 0


def test_one_press_queues_no_more_than_comfyui_can_hold(output):
    request = asked(folder="set")
    request["batcher"] |= {"images_per_class": 10**6, "batch_size": 1}
    answer = routes.missing(request)
    assert answer["batches"] == list(range(routes.MOST_BATCHES))
    assert answer["unfinished"] == answer["missing"] == 3 * 10**6


@pytest.mark.parametrize("folder", ["", "..", "../other", "/", None])
def test_missing_images_are_looked_for_inside_the_output_folder_only(output, folder):
    assert "folder" in routes.missing(asked(folder=folder))["error"]
