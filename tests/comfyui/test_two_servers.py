"""Two real ComfyUI servers, one killed halfway: the folder is exact, other people's jobs finish."""

import json
import uuid
from contextlib import ExitStack
from pathlib import Path

import requests
from conftest import running_comfyui
from sd15_checkpoint import NAME

from client.run import events
from client.run.runner import run_plan
from client.server.fleet import Patience, ServerSpec
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from comfy_nodes.plan import ClassEntry
from tests.client.helpers import assert_exact

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = Patience(answer_s=20.0, stall_s=120.0, probe_s=0.2, probe_most_s=2.0, give_up_s=60.0)


def workflow(seed):
    return patch(
        load_workflow(ROOT / "workflows" / "api" / "sd15_class_prompts.json"),
        Options(
            classes=(ClassEntry("bat"), ClassEntry("bear")),
            images_per_class=6,
            batch_size=2,
            steps=2,
            width=64,
            height=64,
            checkpoint=NAME,
            plan_seed=seed,
        ),
    )


def theirs(url):
    """Queues three jobs of somebody else and returns their ids."""
    graph = {
        "1": {"class_type": "ContractWait", "inputs": {"steps": 2, "seconds": 0.3, "salt": "x"}}
    }
    graph["2"] = {"class_type": "ContractShow", "inputs": {"value": ["1", 0]}}
    ids = [str(uuid.uuid4()) for _ in range(3)]
    for number, each in enumerate(ids):
        graph["1"]["inputs"]["salt"] = str(number)
        assert (
            requests.post(
                f"{url}/prompt", json={"prompt": graph, "prompt_id": each}, timeout=30
            ).status_code
            == 200
        )
    return ids


def test_one_of_two_servers_is_killed_in_the_middle(comfyui, tmp_path):
    packs = {
        "synthgrid": ROOT,
        "contract_nodes.py": ROOT / "tests" / "contract" / "contract_nodes.py",
    }
    planned, seen, others = workflow(77), [], []
    with ExitStack() as stack:
        doomed = stack.enter_context(running_comfyui(tmp_path / "doomed", packs))

        def kill(event):
            seen.append(event)
            if (
                isinstance(event, events.ImageSaved)
                and event.server == "doomed"
                and doomed.process.poll() is None
            ):
                others.extend(theirs(comfyui.url))
                doomed.process.kill()

        servers = [ServerSpec(comfyui.url, name="stays"), ServerSpec(doomed.url, name="doomed")]
        summary = run_plan(planned, servers, tmp_path / "out", on_event=kill, patience=PATIENCE)
    assert_exact(tmp_path / "out", planned)
    images = {figures.name: figures.images for figures in summary.servers}
    assert images["doomed"] >= 1
    assert images["stays"] + images["doomed"] == 12
    assert [event.state for event in seen if isinstance(event, events.ServerDown)] == ["down"]
    for each in others:
        entry = requests.get(f"{comfyui.url}/history/{each}", timeout=30).json()[each]
        assert entry["status"]["status_str"] == "success"
    assert others
    kept = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))["server"]
    assert [each["name"] for each in kept["servers"]] == ["stays", "doomed"]
