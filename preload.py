"""Adds the extension's flags to the WebUI's command line."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; the WebUI calls this before it reads its command line."""
    parser.add_argument(
        "--layerdiffuse-models-dir",
        type=str,
        default=None,
        metavar="DIR",
        help="a further folder to look for LayerDiffuse's weight files in",
    )
    parser.add_argument(
        "--layerdiffuse-offline",
        action="store_true",
        help="never download LayerDiffuse's weight files",
    )
