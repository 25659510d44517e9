"""The panel in ComfyUI's sidebar, in a real browser: from the first try to a whole folder."""

import json

import pytest
from browser import CHROMIUM, opened
from sd15_checkpoint import NAME

from tests.comfy_nodes.helpers import scanned_records
from tests.workflows.shipped import editor

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

CLASSES = "bat\n<img src=x onerror=window.hurt=1>"
SIDEBAR = "document.querySelector('.synthgrid-sidebar')"
TEXT = f"({SIDEBAR}?.innerText ?? '')"


def workflow(folder):
    """Two classes of three pictures, 64 x 64, two steps, in batches of two."""
    graph = json.loads(editor("sd15_class_prompts").read_text(encoding="utf-8"))
    changes = {
        "CheckpointLoaderSimple": {0: NAME},
        "SynthGridClassList": {0: CLASSES},
        "SynthGridClassPromptBatcher": {0: 3, 1: 2},
        "SynthGridBatchLatent": {0: 64, 1: 64},
        "BasicScheduler": {1: 2},
        "SynthGridLabelledImageSaver": {0: folder},
    }
    for node in graph["nodes"]:
        for place, value in changes.get(node["type"], {}).items():
            node["widgets_values"][place] = value
    return graph


def press(page, words):
    found = f"[...{SIDEBAR}.querySelectorAll('button')].find((each) => !each.disabled && "
    page.wait(f"!!{found}each.textContent.startsWith({json.dumps(words)}))")
    page.js(f"{found}each.textContent.startsWith({json.dumps(words)})).click()")


def in_folder(page, count):
    page.wait(f"{TEXT}.startsWith('{count} of 6 pictures of 2 classes')")


def assert_in_sight_when_scrolled(page, words):
    """Whether a button of the panel's head stays where it is when its pictures are scrolled."""
    size = {"width": 900, "deviceScaleFactor": 1, "mobile": False}
    page.command("Emulation.setDeviceMetricsOverride", height=420, **size)
    page.js(f"{SIDEBAR}.lastElementChild.scrollIntoView({{block: 'end'}})")
    found = (
        f"[...{SIDEBAR}.querySelectorAll('button')].find((each) => each.textContent === '{words}')"
    )
    assert page.js(f"{SIDEBAR}.getBoundingClientRect().top") < 0
    assert 0 < page.js(f"{found}.getBoundingClientRect().top") < 420
    page.command("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("drawn", ["canvas", "vue"])
def test_a_try_the_rest_a_rejected_picture_its_return_and_another_in_its_place(
    comfyui, drawn, tmp_path
):
    folder = f"panel {drawn}"
    root = comfyui.base / "output" / folder
    with opened(comfyui.url, tmp_path) as page:
        setting = f"'Comfy.VueNodes.Enabled', {json.dumps(drawn == 'vue')}"
        page.js(f"app.extensionManager.setting.set({setting})")
        page.load(workflow(folder))
        page.js("document.querySelector('.synthgrid-tab-button').click()")
        in_folder(page, 0)

        page.js("app.queuePrompt(0, 1)")  # the first Run
        in_folder(page, 2)
        tried = {path: path.read_bytes() for path in root.glob("*/*.png")}
        assert sorted(index for _, index in scanned_records(root)) == [0, 1]
        press(page, "Make what is missing (4)")
        in_folder(page, 6)
        assert {path: path.read_bytes() for path in tried} == tried
        page.wait(f"{SIDEBAR}.querySelectorAll('figure img').length === 6")
        assert page.js("window.hurt") is None
        assert CLASSES.split("\n")[1] in page.js(TEXT)

        whole = {path: path.read_bytes() for path in root.glob("*/*.png")}
        page.js(f"{SIDEBAR}.querySelector('input').value = 'two bats'")
        page.js(f"{SIDEBAR}.querySelector('figure button').click()")
        in_folder(page, 5)
        assert_in_sight_when_scrolled(page, "Undo")
        (aside,) = root.with_name(f"{folder}.quarantine").glob("bat/*@0.png")
        press(page, "Undo")
        in_folder(page, 6)
        assert {path: path.read_bytes() for path in root.glob("*/*.png")} == whole
        assert not aside.exists()

        page.js(f"{SIDEBAR}.querySelector('figure button').click()")
        in_folder(page, 5)
        press(page, "Make what is missing (1)")
        in_folder(page, 6)
        again = {path: path.read_bytes() for path in root.glob("*/*.png")}
        assert [path for path in whole if again[path] != whole[path]] == [
            root / "bat" / aside.name.replace("@0", "")
        ]
        press(page, "Put back")
        page.wait(f"{TEXT}.includes('has another image in place of')")
        assert {path: path.read_bytes() for path in root.glob("*/*.png")} == again


def test_the_panel_and_the_batcher_speak_chinese_when_comfyui_does(comfyui, tmp_path):
    language = "app.extensionManager.setting.set('Comfy.Locale', '{}')"
    with opened(comfyui.url, tmp_path) as page:
        page.js(language.format("zh"))
        try:
            page.load(workflow("chinese"))
            page.js("document.querySelector('.synthgrid-tab-button').click()")
            page.wait(f"{TEXT}.startsWith('“chinese”中有 2 个类别的 0 张图像，计划 6 张')")
            page.wait("document.querySelector('.synthgrid-panel').innerText.includes('张图像')")
            labels = (
                "app.graph.nodes.flatMap((each) => each.widgets ?? []).map((each) => each.label)"
            )
            assert "把缺少的图像加入队列" in page.js(labels)
        finally:
            page.js(language.format("en"))  # the server keeps it


def test_nothing_is_asked_while_the_panel_is_closed(comfyui, tmp_path):
    with opened(comfyui.url, tmp_path) as page:
        page.js(
            "window.asked = 0; for (const fetchApi of [app.api.fetchApi]) "
            "app.api.fetchApi = function (path) { window.asked += "
            "String(path).includes('synthgrid/folder'); return fetchApi.apply(this, arguments) }"
        )
        page.load(workflow("closed"))
        page.js("new Promise((done) => setTimeout(done, 3000))")
        assert page.js("window.asked") == 0
        page.js("document.querySelector('.synthgrid-tab-button').click()")
        page.wait("window.asked > 0")
        page.js("document.querySelector('.synthgrid-tab-button').click()")
        page.wait(f"!{SIDEBAR}")
        before = page.js("window.asked")
        page.js("new Promise((done) => setTimeout(done, 3000))")
        assert page.js("window.asked") == before
