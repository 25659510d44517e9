"""The pack loads the way ComfyUI loads it: as the whole repository, or as comfy_nodes linked
alone.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOAD = """
import importlib.util, sys
sys.modules["torch"] = None if {without_torch} else sys.modules.get("torch")
path = {path!r}
name = "pack_" + path.replace("/", "_").replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, path + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
import os
print(sorted(module.NODE_CLASS_MAPPINGS), os.path.isdir(os.path.join(path, module.WEB_DIRECTORY)))
"""


@pytest.mark.parametrize(
    "folder", [ROOT, ROOT / "comfy_nodes"], ids=["whole repository", "comfy_nodes alone"]
)
def test_the_pack_loads_from_custom_nodes_without_a_warning(folder, tmp_path):
    code = LOAD.format(path=folder.as_posix(), without_torch=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "SynthGridLabelledImageSaver" in done.stdout
    assert "True" in done.stdout
