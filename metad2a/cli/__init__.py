"""The command line: ``metad2a COMMAND ...``.

Each command is a module of this package with ``configure(parser)``, which adds its arguments, and
``run(args)``, which returns the exit code. Only the one that is asked for is imported, and it
imports what is heavy in ``run``, so that help answers at once.

Exit codes: 0 done, 1 failed (model folder, database), 2 wrong usage, 3 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from metad2a._packages import reach
from metad2a.cli.common import Parser, UsageError, print_json
from metad2a.errors import InputError, MetaD2AError

__all__ = ["main"]

COMMANDS = {
    "suggest": ("suggest", "suggest networks for labelled images"),
    "train": ("train", "train a network on labelled images"),
    "predict": ("predict", "say what images show, by a network that was trained here"),
    "check": ("check", "look through labelled images and say what was understood"),
    "search": ("_search", "search for a network on labelled images by weight sharing"),
    "export": ("export", "write a network as code, ONNX, drawing or description"),
    "db": ("db", "build, inspect and export a database of measured networks"),
    "meta": ("_meta", "meta-train a model from a database, or judge one"),
    "models": ("models", "list, fetch, share and verify models"),
    "spaces": ("spaces", "list the search spaces"),
    "methods": ("methods", "list the search methods, wrappers, evaluators and labellers"),
    "app": ("app", "serve the web page"),
    "doctor": ("doctor", "print versions, devices and paths"),
}
"""Name of a command to its module here and its line of help."""
_NEEDED = {
    "app": ("search",),
    "db": ("search", "database"),
    "methods": ("search",),
    "search": ("search",),
}
"""Packages beside the core that a command imports."""


class _Version(argparse.Action):
    """Prints the installed version, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from importlib.metadata import version

        print(f"metad2a {version('metad2a')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may hold what the terminal cannot show; that must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = _run(arguments or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` say, has enough. Without this the flush at exit would complain.
        _silence()
        return 1
    except (UsageError, MetaD2AError, KeyboardInterrupt) as error:
        kinds = ((UsageError, 2), (InputError, 3), (MetaD2AError, 1), (KeyboardInterrupt, 130))
        code = next(code for kind, code in kinds if isinstance(error, kind))
        told = KeyboardInterrupt("Interrupted.") if code == 130 else error
        return _fail(told, code, arguments)
    except OSError as error:
        # Nobody foresaw it: a name too long, a disk that is full. It is no fault of the program's.
        about = "" if error.filename is None else f"{str(error.filename)[:200]!r}: "
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EBADF, errno.EIO):
            _silence()
            about, arguments = "The answer cannot be written: ", []
        return _fail(MetaD2AError(f"{about}{error.strerror or error}."), 1, arguments)
    return code


def _open_streams() -> None:
    """Put something in the place of standard streams that are closed.

    Without that the next file that is opened would become one, and be written to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123


def _silence() -> None:
    """Let go what standard output still holds: the flush at exit would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn(message: Warning | str, *about: Any, **more: Any) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def _run(arguments: list[str]) -> int:
    parser = Parser(
        prog="metad2a",
        description="Neural networks for your own images, suggested in seconds.",
        epilog="metad2a COMMAND --help says more about a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        if name == chosen:
            importlib.import_module(f"metad2a.cli.{module}").configure(command)
    args = parser.parse_args(arguments)
    for package in _NEEDED.get(args.command, ()):
        reach(package)
    code: int = importlib.import_module(f"metad2a.cli.{COMMANDS[args.command][0]}").run(args)
    return code


def _fail(error: BaseException, code: int, arguments: list[str]) -> int:
    if os.environ.get("METAD2A_DEBUG") == "1":
        traceback.print_exc()
    print(f"Error: {error}", file=sys.stderr)
    if "--json" in arguments:
        print_json({"error": {"type": type(error).__name__, "message": str(error)}})
    return code
