#!/usr/bin/env python3
"""Reads every Bicep file below a folder with checkov's parser: a syntax check where there is no compiler.

checkov passes over a file that it cannot read and calls the rest clean. Exits with 1 and says where and what
when a file cannot be read, or when there is none.
"""

import pathlib
import sys

from pycep import BicepParser


def main(folder):
    """The command line."""
    files = sorted(pathlib.Path(folder).rglob("*.bicep"))
    failed = 0 if files else 1
    for file in files:
        try:
            BicepParser().parse(text=file.read_text())
        except Exception as error:  # the parser raises what its grammar library raises
            print(f"{file}: {error}", file=sys.stderr)
            failed = 1
    print(f"{len(files)} Bicep files read")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
