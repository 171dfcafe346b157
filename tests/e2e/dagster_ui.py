"""`lakehouse ui` for browser tests: the served process, what its API says, and pages of a browser.

Belongs here: starting and ending the server, waiting for it, and taking pictures. Does not belong
here: what a person does on a page, or what is expected of it (test_ui.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Browser, Page, sync_playwright

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parents[2]
SCREENSHOTS = PROJECT / "test-artifacts" / "screenshots"
SIZE = {"width": 1600, "height": 1000}
PATIENCE = 180.0
"""Seconds that a server or a run may take on a busy machine."""

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# Its own services cannot be reached from where tests run, and are not what is tested.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Ui:
    """A served lake."""

    url: str
    home: Path

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The answer of the GraphQL API that the page itself uses."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def assets(self) -> dict[str, list[str]]:
        """The assets of the definitions, by group."""
        groups: dict[str, list[str]] = {}
        for node in self.query("{assetNodes{groupName assetKey{path}}}")["assetNodes"]:
            groups.setdefault(node["groupName"], []).append("/".join(node["assetKey"]["path"]))
        return groups

    def run_of(self, table: str, partition: str) -> dict[str, Any]:
        """The run that was launched for a partition of a table, once it has ended."""
        return wait_for(f"the run of {table} {partition}", lambda: self._ended(table, partition))

    def backfill(self) -> dict[str, Any]:
        """The newest backfill, once it has ended."""
        text = """{partitionBackfillsOrError(limit: 1) {... on PartitionBackfills {results {
            id status partitionNames numPartitions}}}}"""

        def ended() -> dict[str, Any] | None:
            found = self.query(text)["partitionBackfillsOrError"]["results"]
            return found[0] if found and found[0]["status"] not in _BACKFILL_GOES_ON else None

        return wait_for("the backfill", ended)

    def _ended(self, table: str, partition: str) -> dict[str, Any] | None:
        text = """{runsOrError(limit: 25) {... on Runs {results {
            runId status tags {key value} assetSelection {path}}}}}"""
        for run in self.query(text)["runsOrError"]["results"]:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            ours = [{"path": table.split(".")}] == run["assetSelection"]
            if ours and tags.get("dagster/partition") == partition:
                return run if run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None
        return None

    def launch(self, table: str, *partitions: str) -> str:
        """Launches a backfill as a page does; returns its id."""
        text = """mutation($asked: LaunchBackfillParams!) {
            launchPartitionBackfill(backfillParams: $asked) {
                __typename ... on LaunchBackfillSuccess {backfillId} ... on Error {message}}}"""
        asked = {"assetSelection": [{"path": table.split(".")}], "partitionNames": partitions}
        done = self.query(text, asked=asked)["launchPartitionBackfill"]
        assert done["__typename"] == "LaunchBackfillSuccess", done
        return str(done["backfillId"])

    def run_in(self, backfill: str, *statuses: str) -> dict[str, Any]:
        """The one run of a backfill, once it has one of these statuses; ended without any. Each
        materialization has its `metadata`: text, links and fractions by label."""
        text = """query($tag: String!) {runsOrError(filter: {tags: [
            {key: "dagster/backfill", value: $tag}]}) {... on Runs {results {
            runId status assetMaterializations {partition metadataEntries {label
                ... on TextMetadataEntry {value: text} ... on UrlMetadataEntry {value: url}
                ... on FloatMetadataEntry {number: floatValue}}}}}}}"""

        def there() -> dict[str, Any] | None:
            found = self.query(text, tag=backfill)["runsOrError"]["results"]
            wanted = statuses or ("SUCCESS", "FAILURE", "CANCELED")
            return found[0] if found and found[0]["status"] in wanted else None

        run = wait_for(f"the run of backfill {backfill}", there, 4 * PATIENCE)
        for made in run["assetMaterializations"]:
            made["metadata"] = {
                entry["label"]: entry.get("value", entry.get("number"))
                for entry in made["metadataEntries"]
            }
        return run

    def terminate(self, run_id: str) -> None:
        text = "mutation($run: String!) {terminateRun(runId: $run) {__typename}}"
        done = self.query(text, run=run_id)["terminateRun"]
        assert done["__typename"] == "TerminateRunSuccess", done

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """What the page of a run shows, from its beginning."""
        text = """query($run: ID!) {logsForRun(runId: $run) {... on EventConnection {events {
            __typename ... on MessageEvent {message}
            ... on ExecutionStepFailureEvent {error {message causes {message}}}
            ... on ExecutionStepUpForRetryEvent {error {message causes {message}}}
            ... on AssetCheckEvaluationEvent {evaluation {checkName success description}}}}}}"""
        return list(self.query(text, run=run_id)["logsForRun"]["events"])


_BACKFILL_GOES_ON = ("REQUESTED", "CANCELING", "FAILING")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """What `look` finds, as soon as it does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(home: Path, environment: str = "local") -> Iterator[Ui]:
    """`lakehouse ui` on a free port over the lake at `home`, with its daemon healthy."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("lakehouse")), "ui", "--port", str(port)]
    log = home / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_ENV": environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # webserver, daemon and code servers end with it
        )
    ui = Ui(f"http://127.0.0.1:{port}", home)

    def healthy() -> bool:
        assert process.poll() is None, f"`lakehouse ui` ended:\n{log.read_text()[-3000:]}"
        try:
            return _healthy(ui)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    try:
        wait_for("a healthy webserver and daemon", healthy)
        yield ui
    finally:
        _end(process)


def _healthy(ui: Ui) -> bool:
    data = ui.query("""{
        instance {daemonHealth {allDaemonStatuses {required healthy}}}
        repositoriesOrError {... on RepositoryConnection {nodes {name}}}
    }""")
    daemons = [d for d in data["instance"]["daemonHealth"]["allDaemonStatuses"] if d["required"]]
    return bool(data["repositoriesOrError"]["nodes"]) and all(d["healthy"] for d in daemons)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server in good order, and by force what is left of its process group."""
    for how, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        try:
            os.killpg(process.pid, how)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless, with a profile of its own."""
    path = next(filter(None, map(shutil.which, _CHROMIUMS)), None)
    assert path, f"needs Chromium: none of {', '.join(_CHROMIUMS)} is on the PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, ui: Ui, name: str) -> Iterator[Page]:
    """A page of a first visit. If what is done on it fails, its picture and text are kept."""
    context = browser.new_context(viewport=SIZE, color_scheme="light", base_url=ui.url)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(60_000)
    _close_greetings(page)
    try:
        yield page
    except BaseException:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"failure-{name}.png")
        text = f"{page.url}\n{page.locator('body').inner_text()}"
        (SCREENSHOTS / f"failure-{name}.txt").write_text(text, encoding="utf-8")
        raise
    finally:
        context.close()


def _close_greetings(page: Page) -> None:
    """Dagster greets a first visitor with a dialog over the page."""
    greeting = page.get_by_role("dialog").filter(has_text=re.compile("Dagster community"))
    page.add_locator_handler(greeting, lambda _: page.keyboard.press("Escape"))


def picture(page: Page, name: str, height: int = SIZE["height"]) -> Path:
    """Keeps what the page shows, from its top on, once it has come to rest."""
    page.mouse.move(SIZE["width"] - 1, SIZE["height"] - 1)  # no tooltip
    page.wait_for_timeout(1500)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": height})
    return path
