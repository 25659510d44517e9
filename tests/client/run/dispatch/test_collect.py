"""Images are moved out of a server's output folder if possible; nothing outside it is touched."""

import json

import pytest

from client.errors import TransferError
from client.run.dispatch.collect import local_path
from client.run.runner import run_plan
from client.server.fleet import ServerSpec
from tests.client.fault_proxy import FaultProxy
from tests.client.helpers import assert_exact, stub_workflow


@pytest.fixture
def proxy(stub_servers):
    """A proxy that counts what is asked of the first stub server."""
    proxy = FaultProxy(stub_servers[0].url)
    yield proxy
    proxy.down()


def test_images_are_moved_and_not_downloaded(proxy, stub_servers, tmp_path):
    output = stub_servers[0].directory / "output"
    workflow = stub_workflow(seed=3000, per_class=3)
    run_plan(workflow, ServerSpec(proxy.url, output_directory=output), tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)
    assert proxy.count("GET", "/view") == 0
    assert not list(output.rglob(f"{workflow.plan().plan_id}-*"))


@pytest.mark.parametrize("wrong", ["missing", "empty", "other bytes"])
def test_a_folder_that_is_not_the_servers_is_said_once_and_the_images_are_downloaded(
    proxy, stub_servers, tmp_path, caplog, wrong
):
    output, seed = (
        tmp_path / "not-output",
        {"missing": 3001, "empty": 3002, "other bytes": 3003}[wrong],
    )
    workflow = stub_workflow(seed=seed, per_class=2)
    if wrong != "missing":
        output.mkdir()

    def plant(event):
        if wrong == "other bytes" and type(event).__name__ == "RunStarted":
            run_id = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))["run_id"]
            for row in workflow.plan():
                path = (
                    output
                    / "synthgrid"
                    / run_id
                    / row.label
                    / f"{workflow.plan().plan_id}-{row.index:06d}.png"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"something else")

    run_plan(
        workflow, ServerSpec(proxy.url, output_directory=output), tmp_path / "out", on_event=plant
    )
    assert_exact(tmp_path / "out", workflow)
    assert proxy.count("GET", "/view") == 6
    assert caplog.text.count("check --collect") == 1
    assert len([path for path in output.rglob("*.png")]) == (6 if wrong == "other bytes" else 0)


@pytest.mark.parametrize(
    "location",
    [
        None,
        "x.png",
        {"filename": "secret.txt", "subfolder": "..", "type": "output"},
        {"filename": "../secret.txt", "subfolder": "", "type": "output"},
        {"filename": "link.png", "subfolder": "", "type": "output"},
        {"filename": "secret.txt", "subfolder": "out/of/here", "type": "output"},
        {"filename": "inside.png", "subfolder": "", "type": "input"},
        {"filename": "", "subfolder": "", "type": "output"},
        {"filename": "a\0b", "subfolder": "", "type": "output"},
        {"filename": None, "subfolder": None},
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, location):
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (output / "inside.png").write_bytes(b"x")
    (output / "link.png").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(TransferError):
        local_path(output, location)
    assert (
        local_path(output, {"filename": "inside.png", "subfolder": ""})
        == (output / "inside.png").resolve()
    )


def test_an_absolute_name_is_refused(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    with pytest.raises(TransferError):
        local_path(tmp_path / "output", {"filename": str(tmp_path / "secret.txt"), "subfolder": ""})
