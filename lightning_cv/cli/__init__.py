"""The command line."""

from lightning_cv.cli.main import main

__all__ = ["main"]
