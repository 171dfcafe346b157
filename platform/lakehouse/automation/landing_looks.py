"""What one look at landing sees: all of it, or what a queue tells to look at.

Belongs here: listing, and which messages have done their duty. Does not belong here: which runs follow
(landing_sensor.py), or talking to the queue (sources/notifications.py).

A message stays in the queue until what it tells of is in the cursor as Dagster has stored it: as asked
for, or as to be looked at. So it is received twice, and a crash at any point loses none. A message may
come late, and a queue may be connected late: now and then landing is listed as a whole all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.sources.landing import DIGEST_BYTES, Snapshot, digest_of, is_control, snapshot
from lakehouse.sources.notifications import Notice, Queue

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings

PENDING = "00" * DIGEST_BYTES
"""In a cursor, in place of a digest: something has come there, and nothing was asked for yet."""
Place = tuple[str, str]
"""A dataset and a partition."""


@dataclass(frozen=True)
class Seen:
    """`listed` is what is in landing as far as anybody knows; `at` is when all of it was listed;
    `notices` are messages, with what they are about. `unknown` objects are of no dataset, and `unread`
    messages are no events of S3."""

    listed: dict[str, dict[str, str]]
    at: datetime | None = None
    notices: Mapping[Notice, set[Place]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def done(self, known: Snapshot, never: Collection[str]) -> Iterator[Notice]:
        """The messages that have done their duty, by the stored cursor `known`. Of the partitions
        `never` (`dataset/partition`) nothing will be made."""

        def is_stored(dataset: str, partition: str) -> bool:
            stored = known.get(dataset, {}).get(partition)
            present = self.listed.get(dataset, {}).get(partition)
            return stored in (PENDING, present) or f"{dataset}/{partition}" in never

        for notice, places in self.notices.items():
            if all(is_stored(*place) for place in places):
                yield notice


def look(
    settings: Settings,
    queue: Queue | None,
    datasets: Collection[str],
    others: Collection[str],
    known: Snapshot,
    listed_at: datetime | None,
    now: datetime,
) -> Seen:
    """What is there now, by what the queue tells if there is one. `known` is the stored cursor, `others`
    are the datasets that nobody delivers."""
    landing = settings.zones["landing"]
    if queue is None:
        return Seen(snapshot(settings.storage, landing, datasets))
    notices = list(queue.receive(settings.landing.interval_seconds))
    unread = [n.id for n in notices if n.objects is None]
    unknown: list[str] = []
    places = {
        n: _places(n.objects, landing, datasets, others, unknown)
        for n in notices
        if n.objects is not None
    }
    if listed_at is None or now - listed_at >= timedelta(minutes=queue.settings.list_every_minutes):
        listed, listed_at = snapshot(settings.storage, landing, datasets), now
    else:
        pending = {(d, p) for d, of in known.items() for p, v in of.items() if v == PENDING}
        listed = {dataset: dict(known.get(dataset, {})) for dataset in datasets}
        _look_up(settings, listed, pending.union(*places.values()))
    return Seen(listed, listed_at, places, unknown, unread)


def _places(
    objects: Collection[str],
    landing: str,
    datasets: Collection[str],
    others: Collection[str],
    unknown: list[str],
) -> set[Place]:
    """The partitions of delivered datasets that a message is about."""
    root, found = landing.partition("://")[2] + "/", set()
    for name in objects:
        dataset, partition, file = (*name.removeprefix(root).split("/", 2), "", "")[:3]
        if not name.startswith(root) or dataset not in (*datasets, *others) or not file:
            unknown.append(name)
        elif dataset in datasets and not is_control(file):
            found.add((dataset, partition))
    return found


def _look_up(
    settings: Settings, listed: dict[str, dict[str, str]], places: Iterable[Place]
) -> None:
    """Puts what is there now in the place of what was known of some partitions."""
    for dataset, partition in sorted(places):
        digest = digest_of(settings.storage, settings.zones["landing"], dataset, partition)
        of = listed.get(dataset, {})
        of.pop(partition, None)
        if digest is not None:
            of[partition] = digest


def with_pending(after: Snapshot, places: Collection[Place]) -> dict[str, dict[str, str]]:
    """A cursor in which some partitions wait to be looked at again."""
    marked = {dataset: dict(of) for dataset, of in after.items()}
    for dataset, partition in places:
        marked[dataset][partition] = PENDING
    return marked
