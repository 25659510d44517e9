"""Renews the "api" and "saved" part of every pair here, from a real ComfyUI in a real browser.

    python tests/client/workflow/convert/pairs/export.py http://127.0.0.1:8188

Needs selenium, Chromium and its driver. "editor" is a workflow written for the tests, "api" what
the editor's own graphToPrompt makes of it, "saved" (if present) the same workflow saved again. A
pair with a "frontend" is renewed by that version of the editor only.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from selenium import webdriver

HERE = Path(__file__).parent
READY = (
    "try { return !!window.LiteGraph.registered_node_types.KSampler && !!window.app.rootGraph }"
    " catch { return false }"
)
EXPORT = """
const [text, done] = arguments
window.app.loadGraphData(JSON.parse(text))
    .then(() => new Promise((resolve) => setTimeout(resolve, 300)))
    .then(() => window.app.graphToPrompt())
    .then((made) => done(JSON.stringify({ api: made.output, saved: made.workflow })))
    .catch((error) => done(JSON.stringify({ error: String(error) })))
"""
_OPEN = {
    "editor",
    "api",
    "saved",
    "definitions",
    "subgraphs",
    "nodes",
}  # shown with one entry a line


def main(url):
    options = webdriver.ChromeOptions()
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(each)
    browser = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    browser.set_script_timeout(120)
    try:
        browser.get(url)
        while not browser.execute_script(READY):
            time.sleep(0.5)
        time.sleep(3)
        version = browser.execute_script("return window.__COMFYUI_FRONTEND_VERSION__")
        for path in sorted(HERE.glob("*.json")):
            pair = json.loads(path.read_text(encoding="utf-8"))
            if "editor" in pair and pair.get("frontend", version) == version:
                made = json.loads(browser.execute_async_script(EXPORT, json.dumps(pair["editor"])))
                path.write_text(
                    shown(pair | {key: made[key] for key in pair if key in made}) + "\n",
                    encoding="utf-8",
                )
    finally:
        browser.quit()


def shown(value, indent=1):
    """JSON with one node a line."""
    pad = " " * indent
    if isinstance(value, dict):
        rows = [
            f"{pad}{text(key)}: {shown(each, indent + 1) if key in _OPEN and each else text(each)}"
            for key, each in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{pad[:-1]}}}"
    rows = [pad + (shown(each, indent + 1) if "nodes" in each else text(each)) for each in value]
    return "[\n" + ",\n".join(rows) + f"\n{pad[:-1]}]"


def text(value):
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main(sys.argv[1])
