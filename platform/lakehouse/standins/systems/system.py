"""What a system is to the sample: something that settings lead to, and that takes a day of a dataset.

Belongs here: the protocol, and the reasons for which rows are left out. Does not belong here: any of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

NO_ID, NO_TIME, CUT, COPY = "without an Id", "without a time of change", "does not parse", "twice"
LATE, NO_RATE = "changed before the day", "no rate of the bank"
TYPE = "not of its column's type"


class System(Protocol):
    """It is up. `kind` is that of the sources that it has; `connection` is what settings say of that
    kind, and `variables` the environment that they refer to."""

    @property
    def kind(self) -> str: ...
    @property
    def connection(self) -> Mapping[str, Any]: ...
    @property
    def variables(self) -> Mapping[str, str]: ...

    def put(self, source: Any, folder: Path) -> Counter[str]:
        """Takes the files of a day or an hour. Returns how many rows it does not, by reason."""
        ...


def counted(reason: str, rows: int) -> Counter[str]:
    return Counter({reason: rows} if rows else {})
