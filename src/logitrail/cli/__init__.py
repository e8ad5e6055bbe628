"""The command line: parse, call, print. Anything heavy loads inside the command that uses it."""

from logitrail.cli.main import main

__all__ = ["main"]
