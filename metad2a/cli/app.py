"""``metad2a app``: the web page, served from this machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from metad2a.cli.common import integer
from metad2a.errors import InputError, MetaD2AError


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets "
                        "other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=integer, default=7860, help="port (default: 7860)")


def run(args: Namespace) -> int:
    """Serve until Ctrl-C."""
    if not 0 < args.port < 2**16:
        raise InputError(f"--port {args.port} is out of range; use 1 to {2**16 - 1}.")
    from metad2a.page import build_page, launch

    try:
        page = build_page()
    except ModuleNotFoundError as error:
        raise MetaD2AError(f"The page needs {error.name}, which is not installed. "
                           "Run: pip install metad2a[app]") from error
    try:
        launch(page, server_name=args.host, server_port=args.port)
    except OSError as error:
        raise InputError(f"Cannot listen on {args.host}, port {args.port}: {error} "
                         "Choose another --host or --port.") from error
    return 0
