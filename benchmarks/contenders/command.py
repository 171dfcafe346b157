"""A `lakehouse` command, start of the process included.

Belongs here: calling it as the installed script does. Does not belong here: what it does.
"""

from __future__ import annotations

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    expected, *arguments = sys.argv[1:]
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code or 0
        sys.exit(0 if code == int(expected) else f"exit {code}, not {expected}: {arguments}")
