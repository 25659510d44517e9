"""Model files are hashed once, remembered, and never make a save fail."""

import hashlib
import json
import logging
import sys
import types

import pytest

from comfy_nodes.graph import model_files as module
from comfy_nodes.graph.model_files import cache_path, model_files


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models that ComfyUI's folder_paths would find files in."""
    folders = types.ModuleType("folder_paths")

    def get_full_path(folder, name):
        path = tmp_path / "models" / folder / name
        return str(path) if path.is_file() else None

    folders.get_full_path = get_full_path
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    monkeypatch.setattr(module, "cache_path", lambda: tmp_path / "cache" / "hashes.json")
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.delenv("SYNTHGRID_HASHES", raising=False)
    return tmp_path / "models"


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def loader(class_type="CheckpointLoaderSimple", **inputs):
    return {"class_type": class_type, "inputs": inputs}


def test_each_file_that_a_loader_names_has_its_line(models):
    checkpoint = write(models / "checkpoints" / "sd" / "a.ckpt", b"checkpoint")
    vision = write(models / "clip_vision" / "v.pt", b"vision")
    nodes = [
        loader(ckpt_name="sd/a.ckpt"),
        loader("SomebodysLoader", ckpt_name="sd/a.ckpt"),
        loader("CLIPVisionLoader", clip_name="v.pt"),
        loader("VAELoader", vae_name="taesd"),
        loader(ckpt_name=["7", 0]),
    ]
    assert model_files(nodes) == [
        f"checkpoints/sd/a.ckpt sha256:{checkpoint}",
        f"clip_vision/v.pt sha256:{vision}",
    ]


def test_a_lora_also_has_the_hash_of_its_weights_alone(models, monkeypatch):
    header, weights = b'{"x": 1}', b"weights" * 10
    data = len(header).to_bytes(8, "little") + header + weights
    digest = write(models / "loras" / "ink.safetensors", data)
    expected = f"sha256:{digest} autov3:{hashlib.sha256(weights).hexdigest()[:12]}"
    nodes = [loader("LoraLoader", lora_name="ink.safetensors")]
    assert model_files(nodes) == [f"loras/ink.safetensors {expected}"]
    for chunk in (1, 7, 16, 17):
        monkeypatch.setattr(module, "_known", {})
        monkeypatch.setattr(module, "_CHUNK", chunk)
        module.cache_path().unlink()
        assert model_files(nodes) == [f"loras/ink.safetensors {expected}"]


def test_a_file_is_read_once_also_by_the_next_process_and_again_when_it_changes(
    models, monkeypatch
):
    reads = []
    computed = module._computed
    monkeypatch.setattr(
        module, "_computed", lambda *args, **more: reads.append(args[0]) or computed(*args, **more)
    )
    path = models / "checkpoints" / "a.ckpt"
    first = write(path, b"one")
    nodes = [loader(ckpt_name="a.ckpt")]
    for _ in range(3):
        assert first in model_files(nodes)[0]
    monkeypatch.setattr(module, "_known", {})  # another process
    assert first in model_files(nodes)[0]
    assert len(reads) == 1
    second = write(path, b"more")
    assert second in model_files(nodes)[0]
    assert len(reads) == 2


@pytest.mark.parametrize("value", ["off", "0", "No"])
def test_the_switch_turns_it_off(models, monkeypatch, value):
    write(models / "checkpoints" / "a.ckpt", b"one")
    monkeypatch.setenv("SYNTHGRID_HASHES", value)
    assert model_files([loader(ckpt_name="a.ckpt")]) == []


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"x": 3}', '{"x": [1, 2, "evil"]}', "\udcff"])
def test_a_damaged_cache_is_ignored(models, text):
    module.cache_path().parent.mkdir()
    module.cache_path().write_bytes(text.encode("utf-8", "surrogateescape"))
    digest = write(models / "checkpoints" / "a.ckpt", b"one")
    assert digest in model_files([loader(ckpt_name="a.ckpt")])[0]
    assert digest in module.cache_path().read_text()


def test_a_cache_with_anything_but_hashes_is_not_believed(models, monkeypatch):
    path = models / "checkpoints" / "a.ckpt"
    digest = write(path, b"one")
    module.cache_path().parent.mkdir()
    kept = {str(path.resolve()): [3, path.stat().st_mtime_ns, "evil"]}
    module.cache_path().write_text(json.dumps(kept))
    assert model_files([loader(ckpt_name="a.ckpt")]) == [f"checkpoints/a.ckpt sha256:{digest}"]


def test_a_cache_that_cannot_be_written_costs_only_time(models):
    module.cache_path().parent.write_text("a file in its place")
    digest = write(models / "checkpoints" / "a.ckpt", b"one")
    assert digest in model_files([loader(ckpt_name="a.ckpt")])[0]


def test_the_cache_keeps_the_latest_and_never_grows_without_end(models, monkeypatch):
    monkeypatch.setattr(module, "_MOST_KEPT", 2)
    for name in "abc":
        write(models / "checkpoints" / name, name.encode())
        model_files([loader(ckpt_name=name)])
    kept = json.loads(module.cache_path().read_text())
    assert [key[-1] for key in kept] == ["b", "c"]


def test_a_file_that_cannot_be_read_is_named_and_left_out(models, monkeypatch, caplog):
    write(models / "checkpoints" / "a.ckpt", b"one")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "_computed", refuse)
    assert model_files([loader(ckpt_name="a.ckpt")]) == []
    assert "a.ckpt: Permission denied" in caplog.text


def test_a_file_that_changes_while_it_is_read_is_left_out(models, monkeypatch):
    path = models / "checkpoints" / "a.ckpt"
    write(path, b"one")
    computed = module._computed

    def change(*args, **more):
        answer = computed(*args, **more)
        write(path, b"longer")
        return answer

    monkeypatch.setattr(module, "_computed", change)
    assert model_files([loader(ckpt_name="a.ckpt")]) == []
    assert not module.cache_path().exists()


def test_progress_on_a_large_file_is_told_and_the_stop_button_works(models, monkeypatch, caplog):
    write(models / "checkpoints" / "a.ckpt", b"0123456789")
    monkeypatch.setattr(module, "_CHUNK", 5)
    monkeypatch.setattr(module, "_TELL_S", -1.0)
    caplog.set_level(logging.INFO)
    nodes = [loader(ckpt_name="a.ckpt")]

    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    monkeypatch.setattr(module.host, "stop_if_interrupted", stop)
    with pytest.raises(Stopped):
        model_files(nodes)
    monkeypatch.setattr(module.host, "stop_if_interrupted", lambda: None)
    assert len(model_files(nodes)) == 1
    assert "SHA-256 of a.ckpt: 50%" in caplog.text


def test_outside_comfyui_no_file_is_known(monkeypatch):
    monkeypatch.delitem(sys.modules, "folder_paths", raising=False)
    assert model_files([loader(ckpt_name="a.ckpt")]) == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is for other systems")
def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path() == tmp_path / "synthgrid" / "model-hashes.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert ".cache/synthgrid" in cache_path().as_posix()
