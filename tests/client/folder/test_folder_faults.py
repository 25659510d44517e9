"""Full disks, read-only folders, edited metadata and names of every script: the folder stays true.

Covers: client.folder.run_folder, client.folder.repair, client.folder.verify.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from client.__main__ import main
from client.errors import FolderError, RunIncomplete
from client.folder.repair import repair
from client.folder.verify import verify
from client.run.runner import run_plan
from client.run.status import status
from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, encode_image, sha256
from tests.client.helpers import assert_exact, read_records, stub_workflow

NAMES = (
    "naïve e\u0301",
    "Ünïcode",
    "خفاش",
    "चमगादड़",
    "コウモリ",
    "박쥐",
    "🦇",
    "a/b",
    "..",
    "CON",
    "x" * 300,
    "tab\there",
    "#1",
)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many kilobytes; where that is not allowed the test is skipped."""
    mounted = []

    def mount(kilobytes, *options):
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        text = ",".join([f"size={kilobytes}k", *(["remount"] if mounted else []), *options])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", text, "none", str(place)], capture_output=True
        )
        if done.returncode:
            pytest.skip("needs the right to mount")
        mounted.append(place)
        return place

    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs tmpfs")
    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(mounted[0])], check=False)


def graph_file(tmp_path, workflow):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow.graph), encoding="utf-8")
    return path


def test_a_disk_that_is_full_in_the_middle(small_disk, stub_servers, tmp_path, run_client):
    """One line, a true folder, and after making room the run goes on; nothing is made twice."""
    out = small_disk(300) / "set"
    workflow = stub_workflow(per_class=30, seconds=0.0)
    command = ["run", graph_file(tmp_path, workflow), "--server", stub_servers[0].url, "--out", out]
    full = run_client(*command)
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    report = verify(out)
    assert report.problems == ()
    assert 0 < report.images < 90
    assert not list(out.rglob("*.part"))
    before = {path.name: path.read_bytes() for path in out.glob("*/*")}
    small_disk(4000)
    assert run_client(*command).returncode == 0
    assert_exact(out, workflow)
    after = {path.name: path.read_bytes() for path in out.glob("*/*")}
    assert before.items() <= after.items()


def test_a_repair_on_a_full_disk_loses_nothing(small_disk, stub_servers):
    disk = small_disk(4000)
    run_plan(stub_workflow(per_class=4, seconds=0.0), stub_servers[0].url, disk / "set")
    images = sorted((disk / "set").glob("*/*"))
    images[0].write_bytes(b"cut")
    used = int(
        subprocess.run(
            ["df", "-k", "--output=used", str(disk)], capture_output=True, text=True
        ).stdout.split()[1]
    )
    small_disk(used)
    with pytest.raises((FolderError, LabelsetError), match="No space left"):
        repair(disk / "set")
    assert sorted((disk / "set").glob("*/*")) == images
    small_disk(4000)
    assert repair(disk / "set").mended == 1
    assert verify(disk / "set").problems == ()


def test_a_folder_that_may_only_be_read_is_checked_but_not_written(
    small_disk, stub_servers, tmp_path, capsys
):
    disk = small_disk(4000)
    out, workflow = disk / "set", stub_workflow(per_class=2, seconds=0.0)
    run_plan(workflow, stub_servers[0].url, out)
    sorted(out.glob("*/*"))[0].write_bytes(b"cut")
    path = graph_file(tmp_path, workflow)
    small_disk(4000, "ro")
    assert main(["status", str(out)]) == 0
    assert main(["verify", str(out)]) == 1
    capsys.readouterr()
    url = stub_servers[0].url
    for command in (
        ["verify", out, "--repair"],
        ["run", path, "--server", url, "--out", out],
        ["extend", out, "--per-class", "3", "--server", url],
    ):
        assert main([str(each) for each in command]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "Read-only file system; check permissions" in line
    small_disk(4000, "rw")
    assert main(["verify", str(out), "--repair", "--server", url]) == 0


def test_a_damaged_line_is_named_with_the_way_out_and_the_way_out_works(
    stub_servers, tmp_path, capsys
):
    out, workflow = tmp_path / "set", stub_workflow(per_class=2, seconds=0.0)
    run_plan(workflow, stub_servers[0].url, out)
    lines = (out / "metadata.jsonl").read_text("utf-8").splitlines()
    (out / "metadata.jsonl").write_text(
        "\n".join([lines[0], lines[1][:50], *lines[2:]]) + "\n", encoding="utf-8"
    )
    with pytest.raises(
        LabelsetError, match=r"metadata\.jsonl line 2: .*synthgrid verify .* --repair"
    ) as caught:
        run_plan(workflow, stub_servers[0].url, out)
    assert "\n" not in str(caught.value)
    assert main(["verify", str(out), "--repair"]) == 0
    assert run_plan(workflow, stub_servers[0].url, out).made == 0
    assert_exact(out, workflow)


def test_a_run_goes_on_in_a_folder_whose_metadata_an_editor_saved(stub_servers, tmp_path):
    """With a byte order mark and CRLF, and the last line without an end."""
    out = tmp_path / "set"
    run_plan(stub_workflow(per_class=2, seconds=0.0), stub_servers[0].url, out)
    text = (out / "metadata.jsonl").read_bytes()
    (out / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n").rstrip())
    longer = stub_workflow(per_class=3, seconds=0.0)
    assert run_plan(longer, stub_servers[0].url, out).made == 3
    assert verify(out).sound
    assert len(list((out).glob("*/*"))) == 9


def test_class_names_of_every_script_are_made_verified_and_mended(stub_servers, tmp_path):
    out, workflow = tmp_path / "set", stub_workflow(names=NAMES, per_class=1, seconds=0.0)
    graph = json.loads(json.dumps(workflow.graph))
    graph["1"]["inputs"]["classes"] = json.dumps(NAMES)
    workflow = type(workflow)(graph, "stub")
    run_plan(workflow, stub_servers[0].url, out)
    assert verify(out).sound
    (out / "metadata.jsonl").unlink()
    assert repair(out).mended == len(NAMES)
    assert verify(out).sound
    assert_exact(out, workflow)


def test_half_a_character_in_a_class_name_or_template_is_no_traceback(stub_servers, tmp_path):
    """JSON can say it ("\\ud800"), UTF-8 cannot; the folder holds U+FFFD and is sound."""
    out = tmp_path / "set"
    workflow = stub_workflow(
        names=("b\ud800t", "bee"), per_class=1, seconds=0.0, template="a \ud800 {class}"
    )
    run_plan(workflow, stub_servers[0].url, out)
    assert verify(out).sound
    assert run_plan(workflow, "http://127.0.0.1:9", out).existing == 2


def lose_the_record_of(image, out):
    lines = (out / "metadata.jsonl").read_text("utf-8").splitlines(keepends=True)
    left = [line for line in lines if image.name not in line]
    (out / "metadata.jsonl").write_text("".join(left), encoding="utf-8")


@pytest.mark.parametrize("damage", ["cut", "foreign", "folder"])
def test_a_damaged_file_without_a_record_does_not_keep_the_other_images_from_being_made(
    stub_servers, tmp_path, caplog, damage
):
    """The run makes the rest, and says what to do; what it says works."""
    out = tmp_path / "set"
    run_plan(stub_workflow(per_class=2, seconds=0.0), stub_servers[0].url, out)
    image = sorted(out.glob("*/*"))[0]
    lose_the_record_of(image, out)
    held = image.read_bytes()[:100] if damage == "cut" else b"holiday"
    if damage == "folder":
        image.unlink()
        image.mkdir()
    else:
        image.write_bytes(held)
    longer = stub_workflow(per_class=4, seconds=0.0)
    with pytest.raises(RunIncomplete, match=r"1 images could not be made .*11 of 12 images"):
        run_plan(longer, stub_servers[0].url, out)
    assert f"synthgrid verify {out} --repair" in caplog.text
    assert "overwrite" not in caplog.text
    assert len([path for path in out.glob("*/*") if path != image]) == 11
    if damage == "folder":
        image.rmdir()
    else:
        assert image.read_bytes() == held
        assert main(["verify", str(out), "--repair"]) == 1  # one image is missing
    assert run_plan(longer, stub_servers[0].url, out).made == 1
    assert_exact(out, longer)


@pytest.mark.parametrize("has_record", [True, False])
def test_a_run_makes_files_of_0_bytes_again(stub_servers, tmp_path, has_record):
    out, workflow = tmp_path / "set", stub_workflow(per_class=2, seconds=0.0)
    run_plan(workflow, stub_servers[0].url, out)
    for image in sorted(out.glob("*/*"))[:2]:
        image.write_bytes(b"")
        if not has_record:
            lose_the_record_of(image, out)
    assert status(out).done == 4
    assert run_plan(workflow, stub_servers[0].url, out).made == 2
    assert_exact(out, workflow)
    assert verify(out).sound


def moved_into(quarantine):
    """How many images it holds; quick, because a repair moves hundreds in a few milliseconds."""
    return sum(name.endswith(".png") for _, _, names in os.walk(quarantine) for name in names)


@pytest.mark.slow
def test_a_repair_that_is_killed_at_any_moment_is_done_by_the_next(
    stub_servers, tmp_path, start_client
):
    """kill -9 at ten moments; every file is in the folder, which is true, or in the quarantine."""
    out = tmp_path / "set"
    run_plan(stub_workflow(per_class=100, batch_size=50, seconds=0.0), stub_servers[0].url, out)
    images = sorted(out.glob("*/*"))
    for image in images[::2]:
        image.write_bytes(image.read_bytes()[:200])
    quarantine, partial = tmp_path / "set.quarantine", 0
    for moment in range(10):
        before = moved_into(quarantine)
        client = start_client("verify", out, "--repair")
        while moved_into(quarantine) < before + 1 + 3 * moment and client.poll() is None:
            pass
        partial += client.poll() is None
        client.kill()
        client.communicate()
    assert partial  # else no kill came in the middle
    repair(out)
    report = verify(out)
    assert report.problems == ()
    assert report.images == 150
    taken = {path.relative_to(path.parents[1]) for path in quarantine.glob("*/*/*")}
    assert taken == {path.relative_to(out) for path in images[::2]}


@pytest.mark.slow
def test_no_false_image_is_certified_however_a_repair_is_killed(
    stub_servers, tmp_path, start_client
):
    """One bit in half of the images, a third of the lines lost, and kill -9 in every round."""
    chance, made = random.Random(0), tmp_path / "made"
    run_plan(stub_workflow(per_class=30, batch_size=30, seconds=0.0), stub_servers[0].url, made)
    originals = {path.relative_to(made): path.read_bytes() for path in made.glob("*/*")}
    killed = 0
    for number in range(30):
        out = tmp_path / f"set{number}"
        shutil.copytree(made, out)
        for image in chance.sample(sorted(out.glob("*/*")), 45):
            data = bytearray(image.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            image.write_bytes(data)
        lines = (out / "metadata.jsonl").read_bytes().splitlines(keepends=True)
        (out / "metadata.jsonl").write_bytes(b"".join(chance.sample(lines, 60)))
        client = start_client("verify", out, "--repair")
        quarantine, moment = tmp_path / f"set{number}.quarantine", chance.randrange(46)
        while client.poll() is None and moved_into(quarantine) < moment:
            pass
        killed += client.poll() is None
        client.kill()
        client.communicate()
        repair(out)
        assert verify(out).problems == ()
        held = {path.relative_to(out): path.read_bytes() for path in out.glob("*/*")}
        assert held.items() <= originals.items()
        assert len(held) == 45
    assert killed > 10  # else the kills came too late


def as_made_before(out):
    """Takes from every record, and from its copy inside the image, what older versions lacked."""
    lines = []
    for line in (out / "metadata.jsonl").read_text("utf-8").splitlines():
        record = ImageRecord.from_json(line)
        assert record.settings.pop("chain")
        with Image.open(out / record.file_name) as image:
            data = encode_image(image.convert("RGB"), record)
        (out / record.file_name).write_bytes(data)
        lines.append(replace(record, sha256=sha256(data)).to_json())
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_folder_begun_before_records_had_a_chain_is_sound_and_is_extended(stub_servers, tmp_path):
    out = tmp_path / "set"
    run_plan(stub_workflow(per_class=2, seconds=0.0), stub_servers[0].url, out)
    as_made_before(out)
    before = {path: path.read_bytes() for path in (*out.glob("*/*.png"), out / "metadata.jsonl")}
    assert verify(out).sound
    workflow = stub_workflow(per_class=4, seconds=0.0)
    assert run_plan(workflow, stub_servers[0].url, out).made == 6
    assert_exact(out, workflow)
    assert verify(out).sound
    assert repair(out).problems == ()
    for path, data in before.items():
        assert path.read_bytes().startswith(data), path
    chains = ["chain" in record["settings"] for record in read_records(out)]
    assert chains == [False] * 6 + [True] * 6


def test_an_old_record_that_is_lost_comes_back_from_its_image_as_it_was(stub_servers, tmp_path):
    out = tmp_path / "set"
    workflow = stub_workflow(per_class=2, seconds=0.0)
    run_plan(workflow, stub_servers[0].url, out)
    as_made_before(out)
    text = (out / "metadata.jsonl").read_text("utf-8")
    (out / "metadata.jsonl").unlink()
    assert repair(out).mended == 6
    assert sorted((out / "metadata.jsonl").read_text("utf-8").splitlines()) == sorted(
        text.splitlines()
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    "name",
    [
        "metadata.jsonl",
        "generation.json",
        ".synthgrid.lock",
        ".synthgrid-state.json",
        "README.md",
        "image",
    ],
)
def test_a_pipe_in_place_of_any_file_makes_no_command_wait(stub_servers, tmp_path, name, caplog):
    """Opening a pipe waits for its other end: for ever."""
    out, workflow = tmp_path / "set", stub_workflow(per_class=2, seconds=0.0)
    run_plan(workflow, stub_servers[0].url, out)
    path = next(out.glob("*/*.png")) if name == "image" else out / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    outcomes = {}
    for command in (
        lambda: verify(out).sound,
        lambda: status(out).done,
        lambda: run_plan(workflow, stub_servers[0].url, out).total,
        lambda: repair(out).mended,
        lambda: run_plan(workflow, stub_servers[0].url, out).total,
        lambda: verify(out).sound,
    ):
        try:
            outcomes[len(outcomes)] = command()
        except (FolderError, LabelsetError, RunIncomplete) as error:
            outcomes[len(outcomes)] = str(error)
    whole = all(outcomes[place] in (True, 6) for place in (4, 5))
    assert whole or all("regular file" in str(outcomes[place]) for place in (3, 4)), outcomes
    if name in ("image", ".synthgrid-state.json", "README.md"):
        assert whole, outcomes
