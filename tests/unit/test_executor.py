"""Steps side by side in one process: together where they may be, in order where they must, and away
together when the run is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from lakehouse.engines.executor import EMBEDDED, SideBySide
from lakehouse.local.execution import RunOutcome, execute

PATIENCE = 60


def asset(name: str, does: Callable[[], Any], *upstream: str, **more: Any) -> dg.AssetsDefinition:
    deps = [dg.AssetKey(["gold", u]) for u in upstream]
    more = {"required_resource_keys": {EMBEDDED}} | more

    @dg.asset(name=name, key_prefix="gold", deps=deps, **more)
    def made() -> None:
        does()

    return made


def run(*assets: dg.AssetsDefinition) -> tuple[RunOutcome, dg.DagsterInstance]:
    job = dg.define_asset_job("everything")
    definitions = dg.Definitions(assets=assets, jobs=[job], resources={EMBEDDED: None})
    instance = dg.DagsterInstance.ephemeral()
    return execute(definitions, "everything", instance), instance


def failed(outcome: RunOutcome) -> list[str]:
    return sorted(f.step for f in outcome.failures)


def test_steps_that_do_not_depend_on_each_other_run_at_once() -> None:
    both = threading.Barrier(2, timeout=PATIENCE)
    outcome, _ = run(asset("a", both.wait), asset("b", both.wait))
    assert outcome.success, outcome.failures


def test_a_step_waits_for_those_that_it_reads() -> None:
    order: list[str] = []
    slow = asset("a", lambda: (time.sleep(0.2), order.append("a")))
    outcome, _ = run(slow, asset("b", lambda: order.append("b"), "a"))
    assert outcome.success and order == ["a", "b"]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.parametrize("cores", [1, 3])
def test_no_more_steps_run_at_once_than_there_are_cores(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    lock, now, most = threading.Lock(), [0], [0]

    def counted() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1

    outcome, _ = run(*(asset(f"t{n}", counted) for n in range(8)))
    assert outcome.success and 1 <= most[0] <= cores


def test_what_fails_holds_back_what_reads_it_and_nothing_else() -> None:
    done: list[str] = []

    def broken() -> None:
        raise ValueError("broken")

    outcome, instance = run(
        asset("a", broken),
        asset("b", lambda: done.append("b"), "a"),
        asset("c", lambda: done.append("c")),
        asset("d", lambda: done.append("d"), "c"),
    )
    assert not outcome.success and failed(outcome) == ["gold__a"]
    assert done == ["c", "d"] and outcome.skipped == ["gold.b"]
    (found,) = instance.get_runs()
    assert found.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("delay", [0, 0.1])
def test_a_step_is_tried_again_as_its_policy_says(delay: float) -> None:
    tries: list[int] = []

    def once_broken() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")

    again = dg.RetryPolicy(max_retries=1, delay=delay)
    outcome, _ = run(asset("a", once_broken, retry_policy=again), asset("b", lambda: None))
    assert outcome.success and len(tries) == 2


def test_a_run_that_cannot_begin_says_why_and_nothing_else_is_taken_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no threads today")

    monkeypatch.setattr(SideBySide, "_events", broken)
    outcome, _ = run(asset("a", lambda: None))
    assert not outcome.success and outcome.failures[0].assets == ()
    assert "no threads today" in outcome.failures[0].reason


def test_what_waits_for_another_process_does_so_where_a_signal_ends_the_waiting() -> None:
    where: list[threading.Thread] = []
    noted = lambda: where.append(threading.current_thread())  # noqa: E731
    outcome, _ = run(asset("a", noted), asset("b", noted, "a", required_resource_keys=set()))
    assert outcome.success
    assert [t is threading.main_thread() for t in where] == [False, True]


@pytest.mark.parametrize("first_elsewhere", [False, True])
def test_an_interrupt_ends_every_step_which_puts_away_what_it_began(first_elsewhere: bool) -> None:
    put_away: list[str] = []
    both = threading.Barrier(2, timeout=PATIENCE)

    def working(name: str) -> Callable[[], None]:
        def work() -> None:
            try:
                if both.wait() == 0:
                    os.kill(os.getpid(), signal.SIGINT)
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until:
                    time.sleep(0.01)
            finally:
                put_away.append(name)

        return work

    elsewhere = {"required_resource_keys": set()}
    outcome, instance = run(
        asset("a", working("a"), **(elsewhere if first_elsewhere else {})),
        asset("b", working("b")),
        asset("c", lambda: None, "a"),
    )
    assert outcome.interrupted and not outcome.success
    assert failed(outcome) == ["gold__a", "gold__b"] and sorted(put_away) == ["a", "b"]
    (found,) = instance.get_runs()
    assert found.is_finished
    assert not [t for t in threading.enumerate() if t.name.startswith("gold__")]
