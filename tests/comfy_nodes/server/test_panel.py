"""What the sidebar's panel shows of a plan's folder, and what it may move."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from comfy_nodes import host
from comfy_nodes.labelset import (
    TURNS,
    ImageRecord,
    LabelledFolder,
    encode_image,
    image_file_name,
)
from comfy_nodes.labelset.quality.verdicts import Verdict, write_verdicts
from comfy_nodes.nodes.batcher import ClassPromptBatcher
from comfy_nodes.nodes.images import LabelledImageSaver
from comfy_nodes.plan import GenerationPlan, PromptTemplates, parse_classes
from comfy_nodes.server import panel, routes
from tests.comfy_nodes.helpers import scanned_records

CLASSES = "bat\nbear\n<b>蝙蝠</b>"
PLAN = GenerationPlan(parse_classes(CLASSES), PromptTemplates(("a {class}",)), 4, 7)


def asked(**more):
    return {
        "classes": {"classes": CLASSES, "path": ""},
        "templates": {
            "templates": "a {class}",
            "negative_prompt": "",
            "contexts": "",
            "styles": "",
        },
        "batcher": {"images_per_class": 4, "batch_size": 5, "plan_seed": 7, "batch_index": 0},
        "folder": "animals",
    } | more


def fill(root, indices, plan=PLAN):
    images = []
    for index in indices:
        spec = plan.row(index)
        record = ImageRecord(
            image_file_name(spec.label, plan.plan_id, index),
            *(spec.label, spec.prompt, "", spec.seed, index, plan.plan_id),
        )
        images.append((record, encode_image(Image.new("RGB", (8, 8), (index, 9, 9)), record)))
    LabelledFolder(root).add_all(images)


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "animals"
    fill(root, range(8))
    return root


@pytest.fixture
def output(tmp_path, monkeypatch, animals):
    """Images 0 to 7 of twelve in `animals`: three bats, three bears, two of the last class."""
    monkeypatch.setattr(host, "_output_directory", tmp_path / "output")
    shutil.copytree(animals, tmp_path / "output" / "animals")
    return tmp_path / "output"


def shown(answer, place=0):
    return answer["classes"][place]["images"]


def to_move(answer, *indices):
    images = [each for part in answer["classes"] for each in part["images"]]
    chosen = [each for each in images if each["index"] in indices]
    return [{"file_name": each["file_name"], "sha256": each["sha256"]} for each in chosen]


def tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*.*")
        if path.suffix in (".png", ".csv", ".txt")
    }


def test_the_folder_is_counted_and_listed_by_class_the_latest_first(output):
    answer = panel.look(asked())
    assert (answer["made"], answer["images"], answer["others"]) == (8, 12, 0)
    counts = [(each["label"], each["made"], each["planned"]) for each in answer["classes"]]
    assert counts == [("bat", 3, 4), ("bear", 3, 4), ("<b>蝙蝠</b>", 2, 4)]
    assert [each["index"] for each in shown(answer)] == [6, 3, 0]
    record = shown(answer)[0]
    assert (record["folder"], record["prompt"]) == ("animals", "a bat")
    assert (output / "animals" / record["file_name"]).is_file()
    assert (answer["check"], answer["rejected"], answer["all_rejected"]) == ("", [], 0)


def test_an_empty_folder_is_no_error(output):
    answer = panel.look(asked(folder="not there"))
    assert (answer["made"], [each["made"] for each in answer["classes"]]) == (0, [0, 0, 0])


def test_images_of_other_plans_are_counted_and_not_shown(output):
    other = GenerationPlan(PLAN.classes, PLAN.templates, 4, 8)
    fill(output / "animals", (0, 1), other)
    answer = panel.look(asked())
    assert (answer["others"], answer["made"], len(shown(answer))) == (2, 8, 3)


def test_an_image_that_is_gone_is_not_shown(output):
    (gone,) = output.glob("animals/bat/*-000003.png")
    gone.unlink()
    assert [each["index"] for each in shown(panel.look(asked()))] == [6, 0]


def test_labelled_folders_below_the_savers_folder_belong_to_it(output):
    (output / "all").mkdir()
    (output / "animals").rename(output / "all" / "at dusk")
    answer = panel.look(asked(folder="all"))
    assert answer["made"] == 8
    assert {each["folder"] for each in shown(answer)} == {"all/at dusk"}


def test_what_the_newest_check_says_stands_beside_an_image_and_doubtful_ones_come_first(output):
    first = shown(panel.look(asked()))
    verdicts = [
        Verdict(each["sha256"], each["file_name"], "bat", reason, {"label": 0.25, "near": nan})
        for each, reason, nan in (
            (first[2], "looks like a bird", float("nan")),
            (first[0], "", 1),
        )
    ]
    write_verdicts(output / "animals.quality" / "lite0.csv", verdicts)
    answer = panel.look(asked())
    assert answer["check"] == "lite0.csv"
    assert [(each["index"], each.get("reason")) for each in shown(answer)] == [
        (0, "looks like a bird"),
        (6, ""),
        (3, None),
    ]
    assert shown(answer)[0]["scores"] == {"label": 0.25}
    assert "scores" not in shown(answer)[2]


def test_few_images_of_a_class_are_sent_and_more_of_the_one_that_is_open(output, monkeypatch):
    monkeypatch.setattr(panel, "FEW", 2)
    answer = panel.look(asked(open="bear"))
    assert [(len(each["images"]), each["hidden"]) for each in answer["classes"]] == [
        (2, 1),
        (3, 0),
        (2, 0),
    ]


def test_many_classes_are_sent_in_pages(output, monkeypatch):
    monkeypatch.setattr(panel, "MOST_CLASSES", 2)
    answer = panel.look(asked())
    assert ([each["label"] for each in answer["classes"]], answer["hidden_classes"]) == (
        ["bat", "bear"],
        1,
    )
    answer = panel.look(asked(start=2))
    assert [(each["label"], each["made"]) for each in answer["classes"]] == [("<b>蝙蝠</b>", 2)]
    assert answer["hidden_classes"] == 0


def test_a_rejected_image_moves_to_the_quarantine_with_the_reason_and_comes_back_as_it_was(output):
    before = tree(output)
    images = to_move(panel.look(asked()), 3)
    answer = panel.reject({"folder": "animals", "images": images, "reason": " two \n bats "})
    assert answer == {"moved": 1, "gone": 0}
    answer = panel.look(asked())
    assert (answer["made"], [each["index"] for each in shown(answer)]) == (7, [6, 0])
    (aside,) = answer["rejected"]
    assert (aside["label"], aside["index"], aside["reason"]) == ("bat", 3, "two bats")
    assert (aside["check"], answer["all_rejected"]) == ("panel", 1)
    assert (output / "animals.quarantine" / aside["file_name"]).is_file()
    back = {"folder": aside["folder"], "images": [{"file_name": aside["file_name"]}]}
    assert panel.restore(back) == {"restored": 1}
    assert tree(output) == before
    assert panel.look(asked())["rejected"] == []


def test_the_next_run_makes_a_rejected_image_with_another_seed(output):
    panel.reject({"folder": "animals", "images": to_move(panel.look(asked()), 3)})
    assert routes.missing(asked())["batches"] == [0, 1, 2]
    (batch,), *_ = ClassPromptBatcher().select(
        *(PLAN.classes, PLAN.templates, 4, 5, 7, 0), resume_folder="animals"
    )["result"]
    assert batch.specs == (PLAN.row(3, attempt=1),)


def test_the_latest_rejected_images_are_listed_first_and_not_all(output, monkeypatch):
    monkeypatch.setattr(panel, "MOST_REJECTED", 2)
    for index in (3, 0, 4):
        panel.reject({"folder": "animals", "images": to_move(panel.look(asked()), index)})
    answer = panel.look(asked())
    assert [each["index"] for each in answer["rejected"]] == [4, 0]
    assert (answer["all_rejected"], answer["rejected"][0]["reason"]) == (3, "rejected by eye")


def test_an_image_that_has_changed_since_it_was_shown_is_not_moved(output):
    images = to_move(panel.look(asked()), 3)
    images[0]["sha256"] = "0" * 64
    before = tree(output)
    assert panel.reject({"folder": "animals", "images": images}) == {"moved": 0, "gone": 1}
    assert tree(output) == before


@pytest.mark.parametrize("folder", ["../output/animals", "", "/", ".", "a\0b", "..", "animals/.."])
@pytest.mark.parametrize("function", [panel.look, panel.reject, panel.restore])
def test_a_folder_outside_the_output_folder_is_refused(output, function, folder):
    before = tree(output.parent)
    asking = asked(folder=folder, images=[{"file_name": "bat/x.png", "sha256": ""}])
    answer = function(asking)
    if folder == "../output/animals":  # leads out and in again: it is that folder
        assert "error" not in answer or "no image" in answer["error"]
    else:
        assert "must be a folder inside" in answer["error"]
    assert tree(output.parent) == before


@pytest.mark.parametrize("what", ["class folder", "quarantine", "records"])
def test_a_link_out_of_the_output_folder_is_left_alone(output, what):
    images = to_move(panel.look(asked()), 3)
    outside = output.parent / "outside"
    if what == "class folder":
        (output / "animals" / "bat").rename(outside)
        (output / "animals" / "bat").symlink_to(outside)
    elif what == "quarantine":
        outside.mkdir()
        (output / "animals.quarantine").symlink_to(outside)
    else:
        (output / "animals" / "metadata.jsonl").rename(outside)
        (output / "animals" / "metadata.jsonl").symlink_to(outside)
        assert "is a link out of" in panel.look(asked())["error"]
        return
    before = tree(output.parent)
    answer = panel.reject({"folder": "animals", "images": images})
    assert "is a link out of" in answer["error"]
    assert tree(output.parent) == before


def test_an_image_is_not_put_back_through_a_link_out(output):
    panel.reject({"folder": "animals", "images": to_move(panel.look(asked()), 3)})
    (aside,) = panel.look(asked())["rejected"]
    (output / "animals" / "bat").rename(output.parent / "outside")
    (output / "animals" / "bat").symlink_to(output.parent / "outside")
    before = tree(output.parent)
    answer = panel.restore({"folder": "animals", "images": [{"file_name": aside["file_name"]}]})
    assert "is a link out of" in answer["error"]
    assert tree(output.parent) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": []}, "it must be 1 to"),
        ({"images": [{"file_name": "x", "sha256": "y"}] * 101}, "101 images are asked for"),
        ({"images": "all"}, "must be a list"),
        ({"images": [{"file_name": 3, "sha256": ""}]}, "file_name must be text"),
        ({"images": [{"file_name": "\0", "sha256": ""}]}, "zero"),
        ({"reason": 3}, "reason must be text"),
        ({"folder": "elsewhere"}, "give a labelled folder"),
    ],
)
def test_a_bad_request_is_refused_in_words(output, change, words):
    good = {"folder": "animals", "images": [{"file_name": "bat/x.png", "sha256": ""}]}
    assert words in panel.reject(good | change)["error"]
    for body in (None, [], 3):
        assert "must be" in panel.reject(body)["error"]
        assert "must be" in panel.look(body)["error"]


@pytest.mark.parametrize("start", [-1, "3", True, 0.5])
def test_a_page_is_a_whole_number(output, start):
    assert "start must be" in panel.look(asked(start=start))["error"]


def test_records_are_read_again_only_when_they_have_changed(output, monkeypatch):
    panel.look(asked())
    monkeypatch.setattr(panel, "records_of", lambda _: pytest.fail("they are known"))
    assert panel.look(asked())["made"] == 8
    monkeypatch.undo()
    monkeypatch.setattr(host, "_output_directory", output)
    fill(output / "animals", (8,))
    assert len(shown(panel.look(asked()), 2)) == 3


def test_records_too_large_for_the_panel_are_refused(output, monkeypatch):
    monkeypatch.setattr(panel, "LARGEST_FILE", 10)
    assert "too many for the panel" in panel.look(asked())["error"]


def test_images_beyond_a_plan_that_was_made_shorter_are_others(output):
    request = asked()
    request["batcher"]["images_per_class"] = 2
    answer = panel.look(request)
    assert (answer["images"], answer["made"], answer["others"]) == (6, 6, 2)
    assert [each["index"] for each in shown(answer)] == [3, 0]


def test_the_resume_folder_of_the_batcher_comes_first(output):
    request = asked(folder="elsewhere")
    request["batcher"]["resume_folder"] = " animals "
    assert (panel.look(request)["folder"], panel.look(request)["made"]) == ("animals", 8)


def test_a_long_reason_is_cut(output):
    images = to_move(panel.look(asked()), 3)
    panel.reject({"folder": "animals", "images": images, "reason": "x" * 300})
    assert panel.look(asked())["rejected"][0]["reason"] == "x" * panel.LONGEST_REASON


def test_few_files_are_kept_in_memory(output, monkeypatch):
    monkeypatch.setattr(panel, "_KEPT", 2)
    panel._contents.clear()
    for number in range(4):
        fill(output / f"set {number}", (0,))
        panel.look(asked(folder=f"set {number}"))
    assert [path.parent.name for path, _ in panel._contents] == ["set 2", "set 3"]
    panel.look(asked(folder="set 2"))
    assert [path.parent.name for path, _ in panel._contents] == ["set 3", "set 2"]


def test_the_saver_and_the_panel_take_turns(output):
    images = to_move(panel.look(asked()), 3)
    (value,), *_ = ClassPromptBatcher().select(PLAN.classes, PLAN.templates, 4, 4, 7, 2)["result"]
    saver = LabelledImageSaver()
    with ThreadPoolExecutor(2) as pool:
        with TURNS:
            saving = pool.submit(saver.save, torch.rand(4, 8, 8, 3), value, "animals")
            moving = pool.submit(panel.reject, {"folder": "animals", "images": images})
            assert not wait((saving, moving), timeout=0.3).done
            assert len(list(output.glob("animals/*/*.png"))) == 8
        assert moving.result(timeout=30) == {"moved": 1, "gone": 0}
        assert len(saving.result(timeout=30)["ui"]["images"]) == 4
    assert len(scanned_records(output / "animals")) == 11


HEADERS = {"Content-Type": "application/json"}


async def _statuses(requests):
    app = web.Application()
    app.router.add_post("/look", routes.answering(panel.look))
    app.router.add_post("/reject", routes.answering(panel.reject, changes=True))
    async with TestClient(TestServer(app)) as client:
        host_name = f"{client.host}:{client.port}"
        found = []
        for path, headers in requests:
            filled = {name: value.replace("HOST", host_name) for name, value in headers.items()}
            async with client.post(path, data=json.dumps({}), headers=filled) as answer:
                found.append(answer.status)
        return found


def test_only_the_page_of_the_same_server_may_move_images():
    requests = [
        ("/reject", HEADERS),
        ("/reject", HEADERS | {"Origin": "http://HOST", "Sec-Fetch-Site": "same-origin"}),
        ("/reject", HEADERS | {"Origin": "http://elsewhere.example"}),
        ("/reject", HEADERS | {"Origin": "null"}),
        ("/reject", HEADERS | {"Sec-Fetch-Site": "cross-site"}),
        ("/reject", HEADERS | {"Sec-Fetch-Site": "same-site"}),
        ("/reject", {"Content-Type": "text/plain"}),
        ("/look", {"Content-Type": "text/plain"}),
    ]
    assert asyncio.run(_statuses(requests)) == [200, 200, 403, 403, 403, 403, 403, 200]
