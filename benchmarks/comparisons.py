"""What is compared, and the target of each ratio.

Belongs here: the comparisons by letter, their contenders and targets. Does not belong here: how a
contender does its work (contenders/), or how it is measured (race.py, measure.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from benchmarks import (
    extraction,
    large_lake,
    latency,
    measure,
    service,
    store,
    streams,
    text_lines,
    warehouse,
)
from benchmarks.large_lake import QUARANTINED, LargeLake
from benchmarks.measure import Cost
from benchmarks.race import Contender, race
from benchmarks.table import Row
from benchmarks.workload import BESIDE, DAYS, LONG_START, TABLES, Delivery, deliver
from spark_jobs.engines.session import SAIL_PROCESS
from spark_jobs.errors import EngineUnavailable
from spark_jobs.lake import delta

CONTENDERS = "benchmarks.contenders"
# The platform as it runs embedded tables: side by side. `IN_TURN` is its data plane, table by table.
PLATFORM = "platform on sail"
IN_TURN, JVM = "platform on sail, one table after another", "platform on local JVM Spark"
BARE, TUNED = "bare PySpark on Sail", "the same with the platform's settings of Sail"
POLARS, DBT = "bare Polars + delta-rs", "dlt + DuckDB + dbt"
GIB = 2**30
# What the platform may cost, by scale: times the script, and times the script with its settings.
TARGETS_A = {0.1: (1.3, None), 1: (None, 1.1)}
# Commands that need no engine, each with the exit code that it should have.
COMMANDS: tuple[tuple[Any, ...], ...] = (
    (0, "--help"),
    (0, "check"),
    (0, "gaps"),
    (0, "quarantine", "list"),
    (0, "quarantine", "show", QUARANTINED, "--limit", "20"),
    (0, "quarantine", "replay", "silver.products"),
    (2, "quarantine", "discard", QUARANTINED, "nothing", "--reason", "none"),
    (2, "deliver", "--days", "5000"),
    (2, "materialize", "silver.nothing"),
)


@dataclass
class Bench:
    """One run of the benchmark: its settings and the races that it has held.

    `a_scales`, `b_scale`, `d_scale` are TPC-H scales of fourteen days; `c_scale` too, of which a
    day of that size follows 14 days and 140. With `g_gigabytes`, g reads files of that size for
    their memory, and for nothing else.
    """

    work: Path
    runs: int
    tell: Callable[[str], None]
    a_scales: Sequence[float] = (0.1, 1)
    b_scale: float = 0.1
    c_scale: float = 0.1
    d_scale: float = 1
    h_scale: float = 0.1
    i_scale: float = 0.01
    f_scale: float | None = None
    f_days: int = large_lake.DAYS
    f_rejected: int = large_lake.REJECTED
    g_lines: int = 5_000_000
    g_gigabytes: float | None = None
    m_scale: float = 1
    n_records: int = 200_000
    o_seconds: int = 60
    j_scale: float = 0.1
    k_scale: float = 0.01
    k_tables: tuple[str, ...] = (*BESIDE, *TABLES)
    l_scale: float = 0.1
    held: dict[tuple[float, str], Cost] = field(default_factory=dict)

    def compared(self, letters: Sequence[str]) -> list[Row]:
        """The rows of some comparisons. Those that are of one scale share a race."""
        wanted: dict[float, list[str]] = {}
        if "a" in letters:
            for scale in self.a_scales:
                wanted.setdefault(scale, []).extend([PLATFORM, BARE, TUNED])
        if "b" in letters and _java():
            wanted.setdefault(self.b_scale, []).extend([IN_TURN, JVM])
        if "d" in letters:
            wanted.setdefault(self.d_scale, []).extend([PLATFORM, POLARS, DBT])
        if "h" in letters:
            wanted.setdefault(self.h_scale, []).extend([PLATFORM, IN_TURN])
        for scale, names in wanted.items():
            self._hold(scale, list(dict.fromkeys(names)))
        rows: list[Row] = []
        for letter in letters:
            rows += getattr(self, f"_{letter}")()
        return rows

    def _hold(self, scale: float, names: list[str]) -> None:
        delivery = self._delivery(scale)
        given = (str(delivery.landing), "{out}")
        days = tuple(delivery.partitions())
        entrants = {
            PLATFORM: Contender(PLATFORM, f"{CONTENDERS}.side_by_side", (*given, *days), ""),
            IN_TURN: Contender(IN_TURN, f"{CONTENDERS}.data_plane", (*given, "sail", *days), ""),
            JVM: Contender(JVM, f"{CONTENDERS}.data_plane", (*given, "spark", *days), ""),
            BARE: Contender(BARE, f"{CONTENDERS}.bare_spark", (*given, *days), ""),
            TUNED: Contender(
                TUNED, f"{CONTENDERS}.bare_spark", (*given, *days), "", variables=SAIL_PROCESS
            ),
            POLARS: Contender(POLARS, f"{CONTENDERS}.bare_polars", (*given, *days), ""),
            DBT: Contender(DBT, f"{CONTENDERS}.dlt_dbt", (*given, *days), "lake.duckdb"),
        }
        costs = race([entrants[n] for n in names], self.runs, self.work, self.tell)
        self.held |= {(scale, name): cost for name, cost in costs.items()}

    def _delivery(self, scale: float, days: int = DAYS, **more: object) -> Delivery:
        self.tell(f"sample data of scale {scale:g}, {days} days")
        return deliver(self.work, scale, days=days, **more)  # type: ignore[arg-type]

    # -- (a) what the platform costs over a script ---------------------------------------------

    def _a(self) -> list[Row]:
        rows = []
        for scale in self.a_scales:
            ours, bare, tuned = (self.held[scale, name] for name in (PLATFORM, BARE, TUNED))
            of_bare, of_tuned = TARGETS_A.get(scale, (None, None))
            rows.append(
                Row("a", f"{PLATFORM}, scale {scale:g}", ours, *_ratios(ours, bare, of_bare))
            )
            rows.append(Row("a", f"{BARE}, scale {scale:g}", bare))
            rows.append(
                Row("a", f"{TUNED}, scale {scale:g}", tuned, *_ratios(ours, tuned, of_tuned))
            )
            if scale >= 1:
                peak = ours.peak / GIB
                rows.append(
                    Row("a", "peak memory of the platform", ratio=f"{peak:.2f} GiB",
                        target="< 6 GiB", met=peak < 6)
                )  # fmt: skip
        return rows

    # -- (b) what the JVM costs -----------------------------------------------------------------

    def _b(self) -> list[Row]:
        if (self.b_scale, JVM) not in self.held:
            return [Row("b", f"{JVM}: not measured, there is no Java 17 or later")]
        ours, jvm = (self.held[self.b_scale, name] for name in (IN_TURN, JVM))
        ratios = _ratios(jvm, ours, 5, least=True)
        return [
            Row("b", f"{JVM}, scale {self.b_scale:g}, session start included", jvm, *ratios),
            Row("b", f"{IN_TURN}, the same", ours),
        ]

    # -- (c) one more day -----------------------------------------------------------------------

    def _c(self) -> list[Row]:
        short = self._delivery(self.c_scale, DAYS + 1, start=LONG_START)
        long = self._delivery(self.c_scale, 10 * DAYS + 1, start=LONG_START)
        written: dict[str, int] = {}
        held: dict[str, int] = {}
        entrants = []
        for name, delivery in ((f"after {DAYS} days", short), (f"after {10 * DAYS} days", long)):
            *history, day = delivery.partitions()
            base = self.work / "history" / delivery.folder.name
            shutil.rmtree(base, ignore_errors=True)
            self.tell(f"the history of {len(history)} days")
            arguments = (str(delivery.landing), "{out}/lake", "sail")
            at = [a.replace("{out}/lake", str(base)) for a in arguments]
            measure.run(f"{CONTENDERS}.data_plane", [*at, *history], self.work / "logs/history.log")
            entrants.append(_one_more_day(name, base, (*arguments, day), written, held))
        costs = race(entrants, self.runs, self.work, self.tell)
        ours, other = (costs[c.name] for c in reversed(entrants))
        own, added = held[entrants[1].name], written[entrants[1].name]
        landed = long.bytes_of(long.partitions()[-1])
        return [
            Row("c", f"one new day {entrants[1].name}", ours, *_ratios(ours, other, 1.3)),
            Row("c", f"one new day {entrants[0].name}", other),
            Row(
                "c",
                f"bytes written for it, {added:,}, against those that its rows take, {own:,}"
                f" (landing files: {landed:,})",
                ratio=f"{added / own:.2f}",
                target="<= 3",
                met=added <= 3 * own,
            ),
        ]

    # -- (d) other ways to do the work ----------------------------------------------------------

    def _d(self) -> list[Row]:
        scale = self.d_scale
        ours, polars, dbt = (self.held[scale, name] for name in (PLATFORM, POLARS, DBT))
        memory = f"memory {ours.peak / polars.peak:.2f}x, {ours.peak / dbt.peak:.2f}x"
        return [
            Row("d", f"{PLATFORM}, scale {scale:g}", ours, *_ratios(ours, polars, 1.25)),
            Row("d", f"{POLARS}, scale {scale:g}", polars),
            Row("d", f"{PLATFORM}, against dlt + DuckDB + dbt", ours, *_ratios(ours, dbt, None)),
            Row("d", f"{DBT}, scale {scale:g}; {memory} of Polars and of it", dbt),
        ]

    # -- (e) loading the definitions ------------------------------------------------------------

    def _e(self) -> list[Row]:
        needed = self.work / "needed.json"
        module = f"{CONTENDERS}.definitions"
        variables = {"LAKEHOUSE_HOME": str(self.work / "home")}
        # Once unmeasured: it notes what the definitions import, and dbt parses its project.
        measure.run(module, ["load", str(needed)], self.work / "logs/definitions.log", **variables)
        load, libraries = (
            Contender(name, module, (what, str(needed)), variables=variables)
            for name, what in (("definitions", "load"), ("libraries", "libraries"))
        )
        costs = race([load, libraries], self.runs, self.work, self.tell)
        ours, other = costs["definitions"], costs["libraries"]
        return [
            Row("e", "loading the definitions; no engine is imported", ours,
                *_ratios(ours, other, 1.5)),
            Row("e", "importing the libraries that they need", other),
        ]  # fmt: skip

    # -- (f) nothing to do ----------------------------------------------------------------------

    def _f(self) -> list[Row]:
        return [*self._nothing_to_do(), *self._commands()]

    def _nothing_to_do(self) -> list[Row]:
        """`lakehouse run` once more, start of the process and the marts included."""
        home = self.work / "home-of-a-run"
        lake, variables = home / "lake", {"LAKEHOUSE_HOME": str(home)}
        shutil.rmtree(home, ignore_errors=True)
        delivered = ["run", *(["--scale", f"{self.f_scale:g}"] if self.f_scale else [])]
        log = self.work / "logs" / "run.log"
        first = measure.run(f"{CONTENDERS}.command", ["0", *delivered], log, **variables)
        before = _commits(lake)
        again = _command("a run with nothing to do", 0, "run", **variables)
        cost = race([again], self.runs, self.work, self.tell)[again.name]
        commits = _commits(lake) - before
        made = json.loads((home / "summary.json").read_text())["tables"]
        name = f"lakehouse run with nothing to do, {len(made)} tables and models"
        return [
            Row("f", name, cost, *_seconds(cost, 5)),
            Row("f", "its commits", ratio=str(commits), target="= 0", met=commits == 0),
            Row("f", "the run before it, once", first),
        ]

    def _commands(self) -> list[Row]:
        """Commands that look at a lake, or refuse, where there is much of it."""
        large = LargeLake(self.work / "large-lake", self.f_days, self.f_rejected)
        self.tell(f"a lake of {large.days} days and {large.rejected:,} quarantined rows")
        large.write()
        asked = [
            _command(f"lakehouse {' '.join(words)}", expected, *words, **large.variables)
            for expected, *words in COMMANDS
        ]
        costs = race(asked, self.runs, self.work, self.tell)
        of = f"{large.days} days, {large.rejected:,} quarantined rows"
        return [
            Row("f", f"{c.name} ({of})", costs[c.name], *_seconds(costs[c.name], 2)) for c in asked
        ]

    # -- (g) reading text ------------------------------------------------------------------------

    def _g(self) -> list[Row]:
        if self.g_gigabytes is not None:
            return [r for kind in ("csv", "json") for r in self._large(kind, self.g_gigabytes)]
        rows = []
        for kind in ("csv", "json"):
            path = text_lines.written(self.work, kind, self.g_lines)
            names = {
                "sail": f"a {kind} file through Sail",
                "parser": f"the reader of {kind} files by itself",
                "polars": f"Polars, all {kind} columns as text",
            }
            entrants = [
                Contender(name, f"{CONTENDERS}.text_reader", (who, kind, str(path)))
                for who, name in names.items()
            ]
            costs = race(entrants, self.runs, self.work, self.tell)
            other = costs[names["polars"]]
            size = f"{self.g_lines:,} lines, {path.stat().st_size / GIB:.2f} GiB"
            for who in ("sail", "parser"):
                ours = costs[names[who]]
                rows.append(Row("g", f"{names[who]}, {size}", ours, *_ratios(ours, other, 2)))
            rows.append(Row("g", names["polars"], other))
        return rows

    def _large(self, kind: str, gigabytes: float) -> list[Row]:
        """One file of so many GiB through each engine, once; of the JVM's engine the processes that
        read, which are Python's."""
        path = text_lines.written_of_size(self.work, kind, int(gigabytes * GIB))
        rows = []
        try:
            for engine in ("sail", "spark") if _java() else ("sail",):
                self.tell(f"{path.name} through {engine}")
                cost = measure.run(
                    f"{CONTENDERS}.text_reader",
                    (engine, kind, str(path)),
                    self.work / "logs" / f"large-{engine}.log",
                    leave_out="java",
                )
                name = f"a {kind} file of {gigabytes:g} GiB through {engine}: peak memory"
                peak = f"{cost.peak / GIB:.2f} GiB"
                rows.append(Row("g", name, cost, peak, target="<= 1 GiB", met=cost.peak <= GIB))
        finally:
            path.unlink()
        return rows

    # -- (h) tables side by side ---------------------------------------------------------------

    def _i(self) -> list[Row]:
        return store.compared(self._delivery(self.i_scale, days=4))

    # -- (j, k) jobs of a service ---------------------------------------------------------------

    def _j(self) -> list[Row]:
        delivery = self._delivery(self.j_scale)
        return self._as_jobs("j", delivery, lambda s: service.added(s, self.runs, self.tell))

    def _k(self) -> list[Row]:
        delivery = service.sample(self.work, self.k_scale)
        return self._as_jobs("k", delivery, lambda s: service.jobs(s, self.tell, self.k_tables))

    def _as_jobs(
        self, letter: str, delivery: Delivery, compare: Callable[[service.Service], list[Row]]
    ) -> list[Row]:
        try:
            with service.serving(delivery, self.work) as running:
                return compare(running)
        except EngineUnavailable as error:
            return [Row(letter, f"not measured: {error}")]

    # -- (l) loading the warehouse --------------------------------------------------------------

    def _l(self) -> list[Row]:
        return warehouse.compared(self._delivery(self.l_scale), self.work, self.runs, self.tell)

    # -- (m) pulling a large table -----------------------------------------------------------------

    def _m(self) -> list[Row]:
        return extraction.compared(self.m_scale, self.runs, self.work, self.tell)

    # -- (n) draining streams --------------------------------------------------------------------

    def _n(self) -> list[Row]:
        return streams.compared(self.n_records, self.runs, self.work, java=_java())

    # -- (o) from a producer to silver -------------------------------------------------------------

    def _o(self) -> list[Row]:
        return latency.compared(self.o_seconds, self.work, self.tell, java=_java())

    def _h(self) -> list[Row]:
        ours, in_turn = (self.held[self.h_scale, name] for name in (PLATFORM, IN_TURN))
        return [
            Row("h", f"{PLATFORM}, scale {self.h_scale:g}", ours, *_ratios(ours, in_turn, None)),
            Row("h", IN_TURN, in_turn),
        ]


def _command(name: str, expected: int, *words: str, **variables: str) -> Contender:
    arguments = (str(expected), *words)
    return Contender(name, f"{CONTENDERS}.command", arguments, variables=variables)


def _seconds(cost: Cost, most: float) -> tuple[str, str, str, bool]:
    return "", "", f"<= {most:g} s", cost.wall <= most


def _ratios(
    ours: Cost, other: Cost, target: float | None, *, least: bool = False
) -> tuple[str, str, str, bool | None]:
    wall, cpu = ours.wall / other.wall, ours.cpu / other.cpu
    met = None if target is None else (wall >= target if least else wall <= target)
    wanted = "" if target is None else f"{'>=' if least else '<='} {target:g}"
    return f"{wall:.2f}", f"{cpu:.2f}", wanted, met


def _java() -> bool:
    from spark_jobs.engines.java import find_java
    from spark_jobs.errors import EngineUnavailable

    try:
        return bool(find_java())
    except EngineUnavailable:
        return False


def _one_more_day(
    name: str,
    base: Path,
    arguments: tuple[str, ...],
    written: dict[str, int],
    held: dict[str, int],
) -> Contender:
    def inspect(out: Path) -> None:
        written[name] = _bytes_added(out / "lake", base)
        held[name] = _bytes_held(out / "lake", arguments[-1])

    return Contender(
        name,
        f"{CONTENDERS}.data_plane",
        arguments,
        prepare=lambda out: _copy(base, out),
        inspect=inspect,
    )


def _copy(base: Path, out: Path) -> None:
    shutil.copytree(base, out / "lake")


def _logs(lake: Path) -> list[Path]:
    return [p.parent for p in lake.rglob("_delta_log")]


def _commits(lake: Path) -> int:
    return sum(DeltaTable(str(t)).version() + 1 for t in _logs(lake))


def _bytes_held(lake: Path, partition: str) -> int:
    """The bytes that the rows of an arrival window take in the tables of the lake: its share of
    the rows of each file."""
    held = 0.0
    for name in TABLES:
        table = DeltaTable(str(lake / name.replace(".", "/")))
        for file in delta.active_files(table):
            data = pq.read_table(lake / name.replace(".", "/") / file.path, columns=["_partition"])
            rows = pc.sum(pc.equal(data["_partition"], partition)).as_py() or 0
            held += file.size * rows / file.rows
    return int(held)


def _bytes_added(lake: Path, before: Path) -> int:
    """The sizes of the files that commits since `before` added, over all tables of the lake."""
    added = 0
    for table in _logs(lake):
        old = before / table.relative_to(lake)
        known = DeltaTable(str(old)).version() if (old / "_delta_log").exists() else -1
        for commit in sorted((table / "_delta_log").glob("*.json")):
            if int(commit.stem) > known:
                actions = map(json.loads, commit.read_text().splitlines())
                added += sum(a["add"]["size"] for a in actions if "add" in a)
    return added
