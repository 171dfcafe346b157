"""TPC-H tables from `tpchgen-cli`, generated once per scale and read in slices.

Here: the cache of generated files and reading a run of orders with their lines. Not here: what a
delivery makes of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TABLES = ("orders", "lineitem", "customer", "part", "nation", "region")


@dataclass(frozen=True)
class Tpch:
    """The tables of one scale, one Parquet file each; orders and lines are sorted by order key."""

    folder: Path

    def read(self, table: str) -> pa.Table:
        return plain(pq.read_table(self.folder / f"{table}.parquet"))

    @cached_property
    def order_keys(self) -> np.ndarray:
        column = pq.read_table(self.folder / "orders.parquet", columns=["o_orderkey"]).column(0)
        return column.to_numpy()

    @cached_property
    def parts(self) -> int:
        return pq.read_metadata(self.folder / "part.parquet").num_rows

    @cached_property
    def key_span(self) -> int:
        """A distance that keeps re-keyed orders clear of all generated ones."""
        return 10 ** len(str(int(self.order_keys[-1])))

    def orders(self, first: int, last: int) -> pa.Table:
        """The orders with keys from first to last."""
        return self._slice("orders", "o_orderkey", first, last)

    def lines(self, first: int, last: int) -> pa.Table:
        """The lines of the orders with keys from first to last."""
        return self._slice("lineitem", "l_orderkey", first, last)

    def _slice(self, table: str, key: str, first: int, last: int) -> pa.Table:
        with pq.ParquetFile(self.folder / f"{table}.parquet") as file:
            column = file.schema_arrow.get_field_index(key)
            groups = []
            for group in range(file.num_row_groups):
                seen = file.metadata.row_group(group).column(column).statistics
                if seen.max >= first and seen.min <= last:
                    groups.append(group)
            rows = file.read_row_groups(groups)
        keys = rows.column(key).to_numpy()
        low, high = np.searchsorted(keys, first, "left"), np.searchsorted(keys, last, "right")
        return plain(rows.slice(low, high - low))


def plain(table: pa.Table) -> pa.Table:
    """Plain strings, no field metadata, nullable: what an extractor would deliver."""
    fields = [
        pa.field(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type)
        for f in table.schema
    ]
    return pa.Table.from_arrays(
        [c.cast(f.type).combine_chunks() for c, f in zip(table.columns, fields, strict=True)],
        schema=pa.schema(fields),
    )


def generate(scale: float) -> Tpch:
    """The tables at this scale, generated on first use and then kept in the user's cache."""
    home = _cache_home() / f"tpch-{version('tpchgen-cli')}-sf{scale:g}"
    if not home.exists():
        scratch = Path(tempfile.mkdtemp(prefix=".generating-", dir=_cache_home()))
        try:
            _run_tpchgen(scale, scratch)
            scratch.rename(home)
        except OSError:
            if not home.exists():  # else another process was first; its files are the same
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Tpch(home)


def _run_tpchgen(scale: float, folder: Path) -> None:
    program = Path(sys.executable).with_name("tpchgen-cli")
    found = str(program) if program.exists() else shutil.which("tpchgen-cli")
    if not found:
        raise FileNotFoundError(
            f"tpchgen-cli is neither next to {sys.executable} nor on the PATH. "
            "Install the sample extra: pip install 'lakehouse[sample]'."
        )
    command = [
        found,
        "parquet",
        "--quiet",
        "-s",
        f"{scale:g}",
        "-o",
        str(folder),
        "-T",
        ",".join(TABLES),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed with status {done.returncode}: {done.stderr.strip()}"
        )


def _cache_home() -> Path:
    """`lakehouse` in `$XDG_CACHE_HOME` or `~/.cache`; a temporary folder if unwritable."""
    wanted = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            return wanted
    except OSError:
        pass
    fallback = Path(tempfile.gettempdir()) / f"lakehouse-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback
