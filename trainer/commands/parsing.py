"""What the commands' parsers share, and what their options name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands import COMMANDS
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.quality.embedding.embedder import Embedder
    from trainer.quality.images import RealImages

BY = ("template", "context", "style", "strength")  # trainer.analysis.tracing.FIELDS


def new_parser(commands: Any, name: str, *, examples: str) -> argparse.ArgumentParser:
    """A command's parser: what it does above the options, its examples below them."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        description=COMMANDS[name],
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def names(text: str) -> tuple[str, ...]:
    """The parts of "a,b"."""
    return tuple(name.strip() for name in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of "0,0.5,1". Raises argparse.ArgumentTypeError."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected comma-separated numbers, as in 0,0.5,1, not '{text}'"
        ) from None


def named_folders(given: Sequence[str], *, option: str = "--synthetic") -> dict[str, Path]:
    """{name: folder} from "name=folder" or "folder", which is then named after itself.

    Raises:
        ConfigError: two folders have one name.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text).expanduser()
        name = name if equals else path.resolve().name
        if not name or name in found:
            raise ConfigError(
                f"{option} {text}: the name '{name}' is {'taken' if name else 'empty'}; write "
                "NAME=DIR with another name"
            )
        found[name] = path
    return found


def text_table(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> list[str]:
    """Lines: the columns `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if number in left else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def add_embedder_options(parser: Any) -> None:
    """What images are judged by."""
    add = parser.add_argument
    add(
        "--embedder",
        metavar="NAME",
        help="lite0, cnn (trained on half of the real images), pixels, torchvision:NAME, "
        "timm:NAME or open_clip:NAME (default: lite0 if its weights are installed, else "
        "torchvision:resnet50)",
    )
    add("--weights", type=Path, metavar="FILE", help="the embedder's weights, from a file")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")


def embedder_for(options: argparse.Namespace, real: RealImages) -> tuple[Embedder, RealImages]:
    """The embedder that was asked for, and the real images that it was not trained on."""
    from trainer.quality.embedding.embedders import default_embedder, load_embedder
    from trainer.training.compute import pick_device

    embedder = load_embedder(
        options.embedder or default_embedder(),
        weights=options.weights,
        device=pick_device(options.device),
        real=real.train,
    )
    return embedder, real.without(embedder.trained_on)
