"""The pack loads in a real ComfyUI without complaint, cloned as a whole or linked alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import requests

from comfy_nodes import NODE_CLASS_MAPPINGS
from tests.workflows.shipped import FOLDER

ROOT = Path(__file__).resolve().parents[2]


def complaints(log):
    """Lines that name the pack, other than its import time, in the server's log until it listens.
    What comes later is about prompts, which other tests send to the same server.

    Newer servers begin lines with a level, such as "[INFO]" in colour.
    """
    loading, listens, _ = log.partition("To see the GUI go to")
    assert listens
    plain = (re.sub(r"\x1b\[[\d;]*m", "", line) for line in loading.splitlines())
    lines = [line for line in plain if re.search("synthgrid|comfy_nodes", line, re.IGNORECASE)]
    expected = r"(\[\w+\])?\s*[\d.]+ seconds: "
    return [line for line in lines if not re.match(expected, line)]


def missing_nodes(url):
    return set(NODE_CLASS_MAPPINGS) - set(requests.get(f"{url}/object_info", timeout=30).json())


def test_the_whole_repository_loads_as_a_pack(comfyui):
    assert not missing_nodes(comfyui.url)
    assert not complaints(comfyui.log)
    # With brackets: of a custom pack. ComfyUI's own nodes may lack a package, such as torchaudio.
    assert "(IMPORT FAILED)" not in comfyui.log


def test_comfy_nodes_alone_loads_as_a_pack(start_comfyui, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")  # its name, which the log shows, is not the pack's
    with start_comfyui(base, {"comfy_nodes": ROOT / "comfy_nodes"}) as server:
        assert not missing_nodes(server.url)
        assert not complaints(server.log)


def test_the_browser_extension_and_the_templates_are_served(comfyui):
    extensions = requests.get(f"{comfyui.url}/extensions", timeout=30).json()
    assert any(path.endswith("synthgrid.js") for path in extensions)
    templates = requests.get(f"{comfyui.url}/workflow_templates", timeout=30).json()
    assert sorted(templates["synthgrid"]) == sorted(path.stem for path in FOLDER.glob("*.json"))
    for name in templates["synthgrid"]:
        for suffix in (".json", ".jpg"):
            address = f"{comfyui.url}/api/workflow_templates/synthgrid/{name}{suffix}"
            assert requests.get(address, timeout=30).status_code == 200


def test_the_contract_holds_for_this_comfyui_too(comfyui):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "contract")],
        cwd=ROOT,
        env=os.environ | {"SYNTHGRID_CONTRACT_URL": comfyui.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
