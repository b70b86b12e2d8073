"""`lmaas serve`: a masked language model behind the HTTP API."""

from __future__ import annotations

import argparse
from typing import Any

from lmaas_sdk.registry import load_server

__all__ = ["add_command"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command with the options of the server that is installed."""
    server = load_server()
    parser = commands.add_parser("serve", help="serve a model over HTTP", description=__doc__)
    server.add_arguments(parser)
    parser.set_defaults(run=server.run)
