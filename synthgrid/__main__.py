"""`synthgrid COMMAND ...`: finds and runs a command; an error becomes one line and an exit code.

Results go to standard output, progress and errors to standard error. Exit codes: 0 success,
1 failure (one line says why), 2 wrong usage, 130 interrupted. Only the module of the requested
command is imported, so that help is quick.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import client.commands
import trainer.commands
from client.wording import printable
from comfy_nodes.errors import SynthGridError

from .extras import what_to_install

log = logging.getLogger("synthgrid")

_HANDLER = "synthgrid"  # the name of our own handler

GROUPS: Mapping[str, Mapping[str, str]] = {
    "make images": client.commands.COMMANDS,
    "train and report": trainer.commands.COMMANDS,
}
_HOMES = (
    {name: "client" for name in client.commands.COMMANDS}
    | {name: "trainer" for name in trainer.commands.COMMANDS}
    | dict.fromkeys(("estimate", "regenerate"), "synthgrid")  # need both
)
_EXAMPLES = """examples, from class names to a report:
  synthgrid split --images photos --out data/animals --train 30 --test 30
  synthgrid run sd15_class_prompts --server http://127.0.0.1:8188 \\
      --classes data/animals/train --per-class 30 --out data/animals-synthetic
  synthgrid grid --real data/animals --synthetic data/animals-synthetic --out runs/animals

`synthgrid COMMAND --help` describes a command, with examples."""


def main(
    arguments: Sequence[str] | None = None,
    *,
    prog: str = "synthgrid",
    groups: Mapping[str, Mapping[str, str]] = GROUPS,
) -> int:
    """Runs a command of `groups`, {title: {command: one line of help}}; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # class names of any language on any terminal
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    verbose = "--verbose" in given
    _log_to_stderr(verbose=verbose)
    try:
        _refuse_impossible(given)
        options = build_parser(given, prog=prog, groups=groups).parse_args(given)
        code: int = options.command(options)
        return code
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except (SynthGridError, OSError) as error:
        log.error("error: %s", error, exc_info=verbose)
        return 1
    except ModuleNotFoundError as error:
        hint = what_to_install(error.name or "")
        if hint is None:
            raise
        log.error("error: %s needs %s; %s", given[0], error.name, hint, exc_info=verbose)
        return 1
    except (MemoryError, OverflowError, RecursionError) as error:
        log.error("error: not enough memory for what was asked: %s", error or "allocation failed")
        log.debug("where it failed", exc_info=error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; the same command continues where this one stopped")
        return 130


def build_parser(
    given: Sequence[str],
    *,
    prog: str = "synthgrid",
    groups: Mapping[str, Mapping[str, str]] = GROUPS,
) -> argparse.ArgumentParser:
    """The parser of all commands; only the command that `given` names has its options.

    Parsing sets `command` to a function from arguments to exit code.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [--version] [-h] COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_description(groups),
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"synthgrid {_version()}")
    commands = parser.add_subparsers(
        required=True, prog=prog, metavar="COMMAND", help=argparse.SUPPRESS
    )
    known = [name for group in groups.values() for name in group]
    wanted = next((each for each in given if not each.startswith("-")), None)
    if wanted is not None and wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"see {prog} --help"
        parser.error(f"unknown command '{wanted}'; {hint}")
    for name in known:
        if name == wanted:
            module = name.replace("-", "_")
            importlib.import_module(f"{_HOMES[name]}.commands.{module}").add_parser(commands)
            commands.choices[name].add_argument(
                "--verbose", action="store_true", help="log every detail, and tracebacks of errors"
            )
        else:
            commands.add_parser(name)
    return parser


def _refuse_impossible(given: Sequence[str]) -> None:
    """Refuses what is no path on any system, before every command has to.

    Raises:
        SynthGridError: an argument with a NUL character, or of a home folder that does not exist.
    """
    for each in given:
        if "\0" in each:
            raise SynthGridError(f"the argument {each[:60]!r} has a NUL character; remove it")
        if each.startswith("~") and os.path.expanduser(each) == each:  # noqa: PTH111 - raises
            raise SynthGridError(f"there is no home folder for '{each[:60]}'; give the whole path")


def _description(groups: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["Do Stable Diffusion images make your image classifier better?\n"]
    for title, commands in groups.items():
        lines += [f"{title}:", *(f"  {name:<13}{text}" for name, text in commands.items()), ""]
    return "\n".join(lines).rstrip()


class _Printable(logging.Formatter):
    """Whatever a message quotes, a file name or a server's answer, has no power over a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _log_to_stderr(*, verbose: bool) -> None:
    """Messages go to standard error as it is now; handlers that others have set up stay."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.name == _HANDLER]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_HANDLER)
    handler.setFormatter(_Printable("%(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        logging.getLogger("urllib3").setLevel(logging.WARNING)


def _version() -> str:
    try:
        return version("synthgrid")
    except PackageNotFoundError:
        return "(not installed: running from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
