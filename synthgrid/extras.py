"""Which extra brings a missing package, and the line that installs it."""

from __future__ import annotations

from pathlib import Path

# The module that is imported -> the extra of pyproject.toml that brings it. A module that several
# extras bring stands under the smallest.
EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "safetensors": "train",
    "sklearn": "train",
    "scipy": "train",
    "matplotlib": "train",
    "optuna": "train",
    "aiohttp": "embedded",
    "diffusers": "embedded",
    "transformers": "embedded",
    "tokenizers": "embedded",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "pyarrow": "data",
    "timm": "lite0",
    "ray": "ray",
    "grpc": "ray",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "trackio": "trackio",
}
_ROOT = Path(__file__).resolve().parents[1]


def what_to_install(module: str) -> str | None:
    """What to type to get a missing module, in one line; None where no extra has it.

    A checkout is installed in place, so that its own code stays the one that runs.
    """
    extra = EXTRAS.get(module.partition(".")[0])
    if extra is None:
        return None
    if (_ROOT / "pyproject.toml").is_file():
        return f'install it with: python -m pip install -e "{_ROOT}[{extra}]"'
    return f'install it with: python -m pip install "synthgrid[{extra}]"'
