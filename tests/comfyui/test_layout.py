"""The workflows in a real browser whose nodes are drawn as HTML, where they are taller."""

import json

import pytest
from browser import CHROMIUM, opened

from tests.workflows.shipped import TITLES, editor

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

BOXES = """app.graph.nodes.map((node) => {
  const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  return drawn && [node.title, drawn.left, drawn.top, drawn.right, drawn.bottom];
})"""
SAID = "[...document.querySelectorAll('.synthgrid-panel')].every((each) => each.innerText)"
SLACK = 2  # pixels


def covers(first, second):
    _, left, top, right, bottom = first
    _, left_2, top_2, right_2, bottom_2 = second
    width = min(right, right_2) - max(left, left_2)
    return width > SLACK and min(bottom, bottom_2) - max(top, top_2) > SLACK


def test_no_node_covers_another(comfyui, tmp_path):
    with opened(comfyui.url, tmp_path) as page:
        page.js("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
        try:
            for name in TITLES:
                graph = json.loads(editor(name).read_text(encoding="utf-8"))
                done = f"() => {{ window.shown = {json.dumps(name)} }}"
                page.js(f"void app.loadGraphData({json.dumps(graph)}).then({done})")
                page.wait(f"window.shown === {json.dumps(name)}")
                page.js("app.canvas.ds.scale = 0.3; app.canvas.ds.offset = [100, 100]")
                page.js("app.canvas.setDirty(true, true)")
                page.wait(f"{BOXES}.every(Boolean)")
                page.wait(SAID)
                boxes = page.js(BOXES)
                pairs = [(a, b) for at, a in enumerate(boxes) for b in boxes[at + 1 :]]
                assert [(name, a[0], b[0]) for a, b in pairs if covers(a, b)] == []
        finally:
            page.js("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
