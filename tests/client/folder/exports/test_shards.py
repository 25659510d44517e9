"""Tar shards: the way there and back is byte for byte; a shard that is truncated, altered or made
to do harm is named and set aside, and the rest is taken.

Covers: client.folder.exports.shards, client.folder.exports.unpack, comfy_nodes.labelset.shards.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from client.__main__ import main
from client.folder.exports import shards as shards_module
from client.folder.exports.shards import header
from client.folder.exports.source import Source
from comfy_nodes.labelset import shards as reading
from tests.client.folder.exports.helpers import PLAN, export, fails, lines_of, tree


@pytest.fixture
def shards(folder: Path) -> Path:
    """Three shards of three images each."""
    return export(folder, "webdataset", "--shard-images", 3)


def back(shards: Path, capsys: pytest.CaptureFixture) -> tuple[int, Path, str]:
    """Exit code, folder, what was said on standard error."""
    out = shards.with_name("again")
    capsys.readouterr()
    code = main(["export-data", str(shards), "--to", "folder", "--out", str(out)])
    return code, out, capsys.readouterr().err


def manifest_of(shards: Path) -> dict:
    return json.loads((shards / "manifest.json").read_text(encoding="utf-8"))


def write_manifest(shards: Path, value: object) -> None:
    (shards / "manifest.json").write_text(json.dumps(value), encoding="utf-8")


def replace_shard(shards: Path, data: bytes, number: int = 1, **changes: object) -> None:
    """Other bytes for a shard, and a manifest that vouches for them."""
    value = manifest_of(shards)
    entry = value["shards"][number]
    (shards / entry["file"]).write_bytes(data)
    entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} | changes
    write_manifest(shards, value)


def contents(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(each.name, tar.extractfile(each).read()) for each in tar]


def tar_of(files: list[tuple[str, bytes]]) -> bytes:
    parts = [header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in files]
    return b"".join(parts) + bytes(1024)


def test_the_way_there_and_back_is_byte_for_byte(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture
) -> None:
    code, out, said = back(shards, capsys)
    assert (code, said) == (0, "")
    assert tree(out) == tree(folder)
    assert {"README.md", "generation.json", "metadata.jsonl"} <= tree(out).keys()


def test_fields_of_newer_versions_survive_the_way(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    path = folder / "metadata.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"file_name"', b'{"new":  [1.50], "file_name"'))
    _, out, _ = back(export(folder, "webdataset"), capsys)
    assert tree(out) == tree(folder)


def test_shards_are_plain_tars_with_each_image_before_its_record(
    folder: Path, shards: Path
) -> None:
    names = []
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert len(members) == 6
        assert all(each.isreg() and each.mode == 0o644 and each.mtime == 0 for each in members)
        names += [each.name for each in members]
    expected = []
    for record in lines_of(folder):
        key = f"{record['plan_id']}-{record['index']:06d}"
        expected += [f"{key}.{record['file_name'].rpartition('.')[2]}", f"{key}.json"]
    assert names == expected


def test_the_manifest_has_the_hash_of_every_file_and_done_comes_with_it(
    folder: Path, shards: Path
) -> None:
    value = manifest_of(shards)
    assert value["images"] == 9
    assert value["classes"] == {"ant": 3, "bat/../x": 3, "蝙蝠": 3}
    for entry in value["shards"]:
        data = (shards / entry["file"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert entry["images"] == 3
        assert len(data) % tarfile.RECORDSIZE == 0
    assert {each.name for each in shards.iterdir()} == {
        "DONE",
        "manifest.json",
        "README.md",
        "generation.json",
        *(entry["file"] for entry in value["shards"]),
    }


def test_equal_folders_give_equal_shards(make_folder: Callable[..., Path], shards: Path) -> None:
    again = export(make_folder("other"), "webdataset", "--shard-images", 3)
    assert tree(again) == tree(shards)


def test_a_shard_ends_before_it_is_too_large(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shards_module.write(Source(folder), tmp_path / "out", most_bytes=10_000)
    sizes = [each.stat().st_size for each in (tmp_path / "out").glob("*.tar")]
    assert len(sizes) > 2
    assert max(sizes) <= 10_240


@pytest.mark.parametrize("cut", [1, 512, 5000])
def test_a_truncated_shard_is_named_and_set_aside_and_the_rest_is_taken(
    folder: Path, shards: Path, cut: int, capsys: pytest.CaptureFixture
) -> None:
    path = shards / "train-000001.tar"
    os.truncate(path, path.stat().st_size - cut)
    before = tree(shards)
    code, out, said = back(shards, capsys)
    assert code == 1
    assert said.startswith("set aside: train-000001.tar: it is truncated: ")
    records = lines_of(folder)
    assert lines_of(out) == records[:3] + records[6:]
    images = {name for name in tree(out) if "/" in name}
    assert images == {each["file_name"] for each in lines_of(out)}
    assert "6 images" in (out / "README.md").read_text(encoding="utf-8")
    assert tree(shards) == before


def test_a_shard_that_is_truncated_in_the_manifests_own_words_is_set_aside_too(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = (shards / "train-000001.tar").read_bytes()
    for cut in (300, 700, 1300):
        replace_shard(shards, whole[:cut])
        code, out, said = back(shards, capsys)
        assert (code, len(lines_of(out))) == (1, 6)
        assert said.startswith("set aside: train-000001.tar: it ")
        out.rename(out.with_name(f"again {cut}"))


def test_shards_that_are_altered_missing_or_longer_are_set_aside(
    shards: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second, third = sorted(shards.glob("*.tar"))
    data = bytearray(first.read_bytes())
    data[600] ^= 1
    first.write_bytes(data)
    second.unlink()
    code, out, said = back(shards, capsys)
    assert (code, len(lines_of(out))) == (1, 3)
    assert "train-000000.tar: its bytes are not those of the manifest" in said
    assert "train-000001.tar: No such file" in said
    third.write_bytes(third.read_bytes() + b"x")
    other = shards.with_name("other")
    said = fails(capsys, shards, "--to", "folder", "--out", other)
    assert "has no sound shard (train-000000.tar: " in said
    assert not other.exists()


def changed(shards: Path, **changes: object) -> bytes:
    """Shard 1 with another record for its first image."""
    files = contents(shards / "train-000001.tar")
    record = json.loads(files[1][1]) | changes
    return tar_of([files[0], (files[1][0], json.dumps(record).encode()), *files[2:]])


def of_another_kind(kind: bytes) -> Callable[[Path], bytes]:
    def make(shards: Path) -> bytes:
        files = contents(shards / "train-000001.tar")
        info = tarfile.TarInfo(files[0][0])
        info.type, info.linkname, info.size = kind, "/etc/passwd", len(files[0][1])
        return info.tobuf(tarfile.USTAR_FORMAT) + tar_of(files)[512:]

    return make


def with_names(change: Callable[[str], str]) -> Callable[[Path], bytes]:
    return lambda shards: tar_of(
        [(change(name), data) for name, data in contents(shards / "train-000001.tar")]
    )


def with_another_image(shards: Path) -> bytes:
    files = contents(shards / "train-000001.tar")
    return tar_of([(files[0][0], files[2][1]), *files[1:]])


def with_a_second_line(shards: Path) -> bytes:
    files = contents(shards / "train-000001.tar")
    return tar_of([files[0], (files[1][0], files[1][1] + b"\n" + files[3][1]), *files[2:]])


def with_another_end(shards: Path) -> bytes:
    record = json.loads(contents(shards / "train-000001.tar")[1][1])
    return changed(shards, file_name=record["file_name"].replace(".webp", ".exe"))


def with_spaces(between: bytes) -> Callable[[Path], bytes]:
    def make(shards: Path) -> bytes:
        files = contents(shards / "train-000001.tar")
        spread = files[1][1].replace(b'", "', b'",' + between + b'"')
        return tar_of([files[0], (files[1][0], spread), *files[2:]])

    return make


def with_two_images_of_a_name(shards: Path) -> bytes:
    files = contents(shards / "train-000001.tar")
    return tar_of([files[0], (files[0][0].replace(".webp", ".png"), files[0][1]), *files[2:]])


def with_an_image_again(shards: Path) -> bytes:
    files = contents(shards / "train-000001.tar")
    return tar_of([files[0], *files])


def with_an_image_less(shards: Path) -> bytes:
    return tar_of(contents(shards / "train-000001.tar")[:4])


def with_a_record_alone(shards: Path) -> bytes:
    return tar_of(contents(shards / "train-000001.tar")[1:])


def with_one_image(shards: Path, key: str, **changes: object) -> bytes:
    """The first image of shard 0 alone, as `key`, with another record."""
    (_, data), (_, line) = contents(shards / "train-000000.tar")[:2]
    record = json.dumps(json.loads(line) | changes).encode()
    return tar_of([(f"{key}.png", data), (f"{key}.json", record)])


def with_a_row_twice(shards: Path) -> bytes:
    key = f"{PLAN}-000000"
    return with_one_image(shards, key, label="cat", file_name=f"cat/{key}.png")


def with_a_file_twice(shards: Path) -> bytes:
    return with_one_image(shards, f"{PLAN}-000077", index=77)


def with_images_of_another_shard(shards: Path) -> bytes:
    return (shards / "train-000000.tar").read_bytes()


def as_pax(shards: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents(shards / "train-000001.tar"):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), {"comment": "x"}
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


HARM = {
    "a record that leads out": lambda shards: changed(shards, file_name="../../evil.png"),
    "an absolute record": lambda shards: changed(shards, file_name="/tmp/evil.png"),
    "a record in the root": lambda shards: changed(shards, file_name="metadata.jsonl"),
    "a record of a hidden folder": lambda shards: changed(shards, file_name=".git/a.webp"),
    "another class's folder": lambda shards: changed(shards, label="cat"),
    "another row": lambda shards: changed(shards, index=77),
    "another suffix": with_another_end,
    "another hash": lambda shards: changed(shards, sha256="0" * 64),
    "no record": lambda shards: changed(shards, seed="x"),
    "a second line": with_a_second_line,
    "a record over several lines": with_spaces(b"\n"),
    "a record with carriage returns": with_spaces(b"\r"),
    "two images of a name": with_two_images_of_a_name,
    "an image again": with_an_image_again,
    "another image": with_another_image,
    "a symbolic link": of_another_kind(tarfile.SYMTYPE),
    "a hard link": of_another_kind(tarfile.LNKTYPE),
    "a folder": of_another_kind(tarfile.DIRTYPE),
    "a pipe": of_another_kind(tarfile.FIFOTYPE),
    "a device": of_another_kind(tarfile.CHRTYPE),
    "a sparse file": of_another_kind(tarfile.GNUTYPE_SPARSE),
    "names that lead out": with_names("../{}".format),
    "names in folders": with_names("a/{}".format),
    "absolute names": with_names("/tmp/{}".format),
    "programs": with_names(lambda name: name.replace(".webp", ".py")),
    "long headers": as_pax,
    "an image less than promised": with_an_image_less,
    "a record alone": with_a_record_alone,
    "a row twice": with_a_row_twice,
    "a file twice": with_a_file_twice,
    "images twice": with_images_of_another_shard,
    "a compressed tar": lambda shards: __import__("gzip").compress(changed(shards)),
    "no tar": lambda shards: b"not a tar" * 100,
    "nothing": lambda shards: b"",
}


@pytest.mark.parametrize("harm", HARM)
def test_a_shard_made_to_do_harm_is_set_aside_whole(
    folder: Path, shards: Path, harm: str, capsys: pytest.CaptureFixture
) -> None:
    one = {"images": 1} if harm in ("a row twice", "a file twice") else {}
    replace_shard(shards, HARM[harm](shards), **one)
    around = {each.name for each in folder.parent.iterdir()}
    code, out, said = back(shards, capsys)
    assert code == 1
    assert said.startswith("set aside: train-000001.tar: ")
    assert said.count("\n") == 1
    records = lines_of(folder)
    assert lines_of(out) == records[:3] + records[6:]
    assert {name for name in tree(out) if "/" in name} == {
        each["file_name"] for each in lines_of(out)
    }
    assert {each.name for each in folder.parent.iterdir()} == around | {"again"}


def test_a_tar_that_ends_inside_a_file_is_not_taken_for_a_shorter_file() -> None:
    whole = header("a.png", 1024) + bytes(1024)
    for length in (512, 700, 1100):
        with pytest.raises(reading.ShardError, match=r"ends inside 'a\.png'"):
            next(reading.members(io.BytesIO(whole[:length])))


def test_sizes_are_bounded_before_anything_is_read(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    name = contents(shards / "train-000001.tar")[0][0]
    replace_shard(shards, header(name, 8 * 2**30 - 1) + bytes(512))
    _, out, said = back(shards, capsys)
    assert f"'{name}' in it has {8 * 2**30 - 1} bytes; allowed: {512 * 2**20}" in said
    out.rename(out.with_name("first"))
    monkeypatch.setattr(reading, "MOST_RECORD_BYTES", 10)
    out = shards.with_name("second")
    assert "allowed: 10" in fails(capsys, shards, "--to", "folder", "--out", out)


def test_a_link_in_place_of_a_shard_is_not_followed(
    shards: Path, capsys: pytest.CaptureFixture
) -> None:
    path = shards / "train-000001.tar"
    path.rename(shards.with_name("elsewhere.tar"))
    path.symlink_to(shards.with_name("elsewhere.tar"))
    code, _, said = back(shards, capsys)
    assert code == 1
    assert "train-000001.tar: it is a link" in said


def test_a_pipe_in_place_of_a_shard_is_not_waited_for(
    shards: Path, capsys: pytest.CaptureFixture
) -> None:
    (shards / "train-000001.tar").unlink()
    os.mkfifo(shards / "train-000001.tar")
    assert back(shards, capsys)[0] == 1


def test_an_altered_generation_json_is_left_out(
    shards: Path, capsys: pytest.CaptureFixture
) -> None:
    (shards / "generation.json").write_text("{}", encoding="utf-8")
    code, out, said = back(shards, capsys)
    assert code == 1
    assert "set aside: generation.json: its bytes are not those of the manifest" in said
    assert not (out / "generation.json").exists()
    assert len(lines_of(out)) == 9


def test_a_linked_generation_json_is_left_out(shards: Path, capsys: pytest.CaptureFixture) -> None:
    path = shards / "generation.json"
    path.rename(shards.with_name("elsewhere.json"))
    path.symlink_to(shards.with_name("elsewhere.json"))
    code, out, said = back(shards, capsys)
    assert (code, (out / "generation.json").exists()) == (1, False)
    assert "generation.json is a link" in said


def test_a_manifest_without_end_is_refused(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    said = fails(capsys, shards, "--to", "folder", "--out", shards.with_name("again"))
    assert "manifest.json has more than" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("shards", None),
        ("shards", [{"file": "../x.tar", "sha256": "0" * 64, "bytes": 1, "images": 1}]),
        ("shards", [{"file": "x.tar", "sha256": "0", "bytes": 1, "images": 1}]),
        ("shards", [{"file": "x.tar", "sha256": "0" * 64, "bytes": -1, "images": 1}]),
        ("shards", [{"file": "x.tar", "sha256": "0" * 64, "bytes": 1, "images": True}]),
        ("shards", 2 * [{"file": "x.tar", "sha256": "0" * 64, "bytes": 1, "images": 1}]),
        ("files", {"../../.bashrc": "0" * 64}),
        ("files", ["README.md"]),
    ],
)
def test_a_damaged_manifest_is_refused(
    shards: Path, key: str, value: object, capsys: pytest.CaptureFixture
) -> None:
    write_manifest(shards, manifest_of(shards) | {key: value})
    out = shards.with_name("again")
    said = fails(capsys, shards, "--to", "folder", "--out", out)
    assert "manifest.json is damaged" in said
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", "1", '"x"'])
def test_a_manifest_that_is_no_object_is_refused(
    shards: Path, text: str, capsys: pytest.CaptureFixture
) -> None:
    (shards / "manifest.json").write_text(text, encoding="utf-8")
    said = fails(capsys, shards, "--to", "folder", "--out", shards.with_name("again"))
    assert "manifest.json is damaged" in said


def test_incomplete_copies_and_other_folders_are_refused(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture
) -> None:
    out = shards.with_name("again")
    (shards / "DONE").unlink()
    assert "has no file DONE" in fails(capsys, shards, "--to", "folder", "--out", out)
    said = fails(capsys, folder, "--to", "folder", "--out", out)
    assert "it is a labelled folder already" in said


def test_a_plan_name_that_no_shard_can_hold_is_refused(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    path = folder / "metadata.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"plan_id": "3f1c', b'"plan_id": "../3f1c'))
    said = fails(capsys, folder, "--to", "webdataset", "--out", folder.with_name("out"))
    assert "cannot name a file of a shard" in said


def test_a_shard_ends_with_two_empty_blocks_also_where_it_is_full_to_the_last_byte(
    tmp_path: Path,
) -> None:
    shard = shards_module._OpenShard(tmp_path / "train-000000.tar")
    data = bytes(tarfile.RECORDSIZE - 512)
    shard.add(header("a.png", len(data)), data)
    shard.close()
    assert (tmp_path / "train-000000.tar").stat().st_size == 2 * tarfile.RECORDSIZE
    assert contents(tmp_path / "train-000000.tar") == [("a.png", data)]
