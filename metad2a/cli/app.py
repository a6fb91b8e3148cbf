"""``metad2a app``: the web page, served from this machine."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser, Namespace

from metad2a.cli.common import integer
from metad2a.errors import InputError, MetaD2AError


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=integer, default=7860, help="port (default: 7860)")
    parser.add_argument(
        "--mcp",
        action="store_true",
        help="offer the endpoints as MCP tools too, under /gradio_api/mcp/",
    )


def run(args: Namespace) -> int:
    """Serve until Ctrl-C."""
    if not 0 < args.port < 2**16:
        raise InputError(f"--port {args.port} is out of range; use 1 to {2**16 - 1}.")
    for package in ("gradio", "mcp") if args.mcp else ("gradio",):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            extra = "mcp" if package == "mcp" else "app"
            raise MetaD2AError(
                f"The page needs {package}, which is not installed. "
                f"Run: pip install 'metad2a[{extra}]'"
            ) from error
    from metad2a.page import Backend, build_page, launch
    from metad2a.training.train import train
    from search import check, refine

    page = build_page(Backend(check, refine, train))
    try:
        launch(page, server_name=args.host, server_port=args.port, mcp_server=args.mcp)
    except OSError as error:
        raise InputError(
            f"Cannot listen on {args.host}, port {args.port}: {error} "
            "Choose another --host or --port."
        ) from error
    return 0
