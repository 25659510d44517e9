"""A workflow against /object_info: one line that names the culprit and the way out.

Covers: client.workflow.preflight, client.workflow.estimates.
"""

import contextlib
from importlib.metadata import PackageNotFoundError, version

import pytest

from client.errors import WorkflowError
from client.workflow.changes.options import Options, patch
from client.workflow.estimates import gpu_memory, image_bytes, shown_bytes
from client.workflow.graph import parse_workflow
from client.workflow.preflight import check, validate, warnings


def refusal(graph, object_info):
    with pytest.raises(WorkflowError) as caught:
        validate(parse_workflow(graph), object_info)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_workflow_is_valid(workflow, object_info):
    validate(workflow, object_info)


def test_our_nodes_missing_on_the_server_are_named_with_the_way_out(graph, object_info):
    without = {name: info for name, info in object_info.items() if not name.startswith("SynthGrid")}
    message = refusal(graph, without)
    assert "SynthGridClassPromptBatcher" in message
    assert "custom_nodes" in message


def test_an_unknown_node_names_its_nearest(graph, object_info):
    graph["20"] = {"class_type": "CFGGuide", "inputs": {}}
    assert "nearest: CFGGuider" in refusal(graph, object_info)


def test_an_unknown_checkpoint_lists_what_is_there_nearest_first(graph, object_info):
    graph["1"]["inputs"]["ckpt_name"] = "v1-5-pruned.safetensors"
    message = refusal(graph, object_info)
    assert (
        "node 1 'Checkpoint': ckpt_name 'v1-5-pruned.safetensors' is not on this server" in message
    )
    assert message.index("v1-5-pruned-emaonly") < message.index("sd_xl_base")


def test_a_server_without_checkpoints_says_so(graph, object_info):
    info = object_info | {
        "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[]]}}, "output": []}
    }
    assert "it has none" in refusal(graph, info)


@pytest.mark.parametrize(
    ("node", "name", "value", "message"),
    [
        ("8", "sampler_name", "eulr", "sampler_name 'eulr' is not on this server; it has euler"),
        ("9", "steps", 0, "steps 0 is below the smallest value 1"),
        ("9", "denoise", 1.5, "denoise 1.5 is above the largest value 1"),
        ("9", "steps", 2.5, "expected a whole number"),
        ("9", "steps", True, "expected a whole number"),
        ("10", "cfg", "4", "expected a number"),
        ("10", "cfg", float("nan"), "expected a number"),
        ("6", "txt", 1, "has no input 'txt'; available: batch, width, height"),
        (
            "12",
            "samples",
            ["8", 0],
            "'samples' needs LATENT, but output 0 of node 8 'Sampler' is SAMPLER",
        ),
        ("12", "samples", ["8", 4], "takes output 4 of node 8 'Sampler', which has 1"),
        ("12", "samples", None, "samples needs a link to a LATENT"),
    ],
)
def test_a_wrong_input_is_named_with_what_would_be_right(
    graph, object_info, node, name, value, message
):
    graph[node]["inputs"][name] = value
    assert message in refusal(graph, object_info)


def test_a_missing_required_input_is_named(graph, object_info):
    del graph["12"]["inputs"]["vae"]
    assert "node 12 'Decode' lacks the input 'vae'" in refusal(graph, object_info)


def test_an_optional_input_may_be_left_out(graph, object_info):
    del graph["4"]["inputs"]["only"]
    validate(parse_workflow(graph), object_info)


def test_nodes_that_make_up_inputs_may_have_any(graph, object_info):
    graph["20"] = {"class_type": "Any", "inputs": {"one": 1, "two": ["8", 0]}}
    info = object_info | {
        "Any": {"input": {"required": {}, "optional": {"any": ["*", {}]}}, "output": []}
    }
    validate(parse_workflow(graph), info)


def test_every_problem_is_in_the_one_line_up_to_a_limit(graph, object_info):
    graph["6"]["inputs"] |= {f"odd{number}": 1 for number in range(9)}
    message = refusal(graph, object_info)
    assert "odd0" in message
    assert "and 3 more" in message


def test_a_hostile_object_info_does_not_crash(workflow):
    names = {node["class_type"] for node in workflow.graph.values()}
    for odd in (None, [], 3, {"input": []}, {"input": {"required": None}, "output": "x"}):
        with contextlib.suppress(WorkflowError):
            validate(workflow, dict.fromkeys(names, odd))


@pytest.mark.parametrize(
    "sampler", ["euler_ancestral", "dpmpp_2m_sde_gpu", "lcm", "uni_pc", "dpm_2", "dpm_adaptive"]
)
def test_samplers_that_break_reproducing_one_image_alone_are_warned_of(workflow, sampler):
    assert sampler in warnings(patch(workflow, Options(sampler=sampler)))[0]


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ddim"])
def test_samplers_that_keep_it_are_not(workflow, sampler):
    assert warnings(patch(workflow, Options(sampler=sampler))) == []


def codes(findings):
    return [(each.level, each.code, each.node) for each in findings]


def test_a_valid_workflow_has_no_findings(workflow, object_info, tmp_path):
    assert (
        check(workflow, object_info, stats=stats(24 * GIB), out=tmp_path / "new" / "folder") == []
    )


def test_findings_tell_level_kind_and_node_errors_first(graph, object_info):
    graph["8"]["inputs"]["sampler_name"] = "euler_ancestral"
    graph["9"]["inputs"]["steps"] = 0
    graph["10"]["inputs"]["odd"] = 1
    found = check(parse_workflow(graph), object_info)
    assert codes(found) == [
        ("error", "out_of_range", "9"), ("error", "unknown_input", "10"),
        ("warning", "not_reproducible", "8"),
    ]  # fmt: skip
    assert found[0].to_dict()["message"] == "node 9 'Steps': steps 0 is below the smallest value 1"


GIB = 2**30


def stats(total, free=None, kind="cuda"):
    return {
        "devices": [
            {"type": kind, "vram_total": total, "vram_free": total if free is None else free}
        ]
    }


def test_a_batch_that_the_gpu_cannot_hold_is_refused_and_a_tight_one_warned_of(
    workflow, object_info
):
    big = patch(workflow, Options(batch_size=64, width=1024, height=1024))
    (error,) = check(big, object_info, stats=stats(4 * GIB))
    assert (error.level, error.code, error.node) == ("error", "gpu_memory", "6")
    assert "a batch of 64 images of 1024x1024 needs about 22.0 GB" in error.message
    (warning,) = check(workflow, object_info, stats=stats(8 * GIB, free=GIB))
    assert (warning.level, warning.code) == ("warning", "gpu_memory")
    assert "1.1 GB of 8.6 GB are free" in warning.message


@pytest.mark.parametrize(
    "odd",
    [{}, {"devices": None}, {"devices": [3, {"type": "cuda"}]}, stats(0), stats(1, kind="cpu")],
)
def test_a_server_without_gpu_or_figures_is_not_judged(workflow, object_info, odd):
    assert check(workflow, object_info, stats=odd) == []


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (10**12, []),
        (int(100 * 400e3), [("warning", "disk_space", "")]),
        (10**6, [("error", "disk_space", "")]),
    ],
)
def test_a_disk_that_is_too_small_is_told_before_the_first_job(
    workflow, object_info, tmp_path, monkeypatch, free, expected
):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert (
        codes(check(workflow, object_info, out=tmp_path / "not" / "there", images=100)) == expected
    )


def test_a_server_with_another_version_of_the_nodes_is_told(workflow, object_info):
    try:
        own = version("synthgrid")
    except PackageNotFoundError:
        pytest.skip("SynthGrid is not installed as a package")
    (found,) = check(workflow, object_info, stats={"system": {"synthgrid_version": "0.0.1"}})
    assert (found.level, found.code) == ("warning", "pack_version")
    assert own in found.message


def test_estimates_grow_with_what_they_are_of():
    small, large = (
        gpu_memory(batch_size=8, width=512, height=512),
        gpu_memory(batch_size=16, width=512, height=512),
    )
    assert large.sampling == 2 * small.sampling == 4 * small.least_sampling
    assert large.decoding == small.decoding
    assert image_bytes(width=512, height=512) == pytest.approx(400_000, rel=0.05)
    assert image_bytes(width=512, height=512, file_format="JPEG") < image_bytes(
        width=512, height=512
    )
    assert [shown_bytes(each) for each in (999, 2.5e6, 3.44e9, 1e13)] == [
        "1 KB",
        "2.5 MB",
        "3.4 GB",
        "10.0 TB",
    ]


def test_a_node_with_choices_of_its_users_own_is_not_checked_against_the_servers():
    info = {
        "CustomCombo": {
            "input": {"required": {"choice": ["COMBO", {"options": []}]}},
            "output": ["STRING", "INT"],
        },
        "PreviewAny": {"input": {"required": {"source": ["*", {}]}}, "output": []},
    }
    graph = {
        "1": {
            "class_type": "CustomCombo",
            "inputs": {"choice": "mine", "index": 0, "option1": "mine", "option2": ""},
        },
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    validate(parse_workflow(graph), info)
