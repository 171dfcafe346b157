"""Loading the definitions, against importing the libraries that they need.

Belongs here: both contenders of that comparison. Does not belong here: what the definitions are.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path

OURS = ("lakehouse", "spark_jobs", "benchmarks", "__main__")
# What starts an engine or opens a session; loading definitions must not even import it.
ENGINES = ("pysail", "pyspark")


def load(needed: Path) -> None:
    """Imports and builds all definitions; notes the modules of others that this took."""
    from lakehouse.definitions import build_definitions

    build_definitions().get_repository_def()
    started = [name for name in ENGINES if name in sys.modules]
    if started:
        raise SystemExit(f"loading the definitions imports {', '.join(started)}")
    needed.write_text(json.dumps([n for n in sys.modules if n.partition(".")[0] not in OURS]))


def libraries(needed: Path) -> None:
    """Imports the same modules, and does nothing with them."""
    for name in json.loads(needed.read_text()):
        # Some are not imported by their name: parts of others, or aliases.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


if __name__ == "__main__":
    {"load": load, "libraries": libraries}[sys.argv[1]](Path(sys.argv[2]))
