"""The dbt marts as Dagster assets: one multi-asset, its checks, and the resource that runs dbt.

Belongs here: when a build is needed, and what a build says of each mart. Does not belong here: SQL
(dbt_project/), the process (dbt.py) and what an asset looks like (specs.py).
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.failures import again_or_final, failed
from lakehouse.keys import ANNOUNCED, BEFORE, FORCE_TAG, FOUND, run_range
from lakehouse.marts.builds import (
    Build,
    CheckOutcome,
    Fingerprint,
    fingerprint,
    needs_full_refresh,
    project_digest,
    unchanged,
    upstream_sources,
)
from lakehouse.marts.dbt import Dbt, dbt_resource, failures, prepared_project
from lakehouse.marts.lineage import column_lineage
from lakehouse.marts.messages import may_pass
from lakehouse.marts.records import Record, record_of
from lakehouse.marts.samples import failing_rows
from lakehouse.marts.specs import POOL, asset_key, asset_specs, check_specs, relation
from lakehouse.partitions import partitions_def

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings


class MartsConfig(dg.Config):
    """`force` builds although nothing changed: of incremental marts what the partitions of the run
    have brought; `full_refresh` also rebuilds those from scratch."""

    force: bool = False
    full_refresh: bool = False


def build_marts(settings: "Settings") -> tuple[list[dg.AssetsDefinition], dict[str, Any]]:
    """The marts as assets with their checks, and the resources they need.

    Raises DbtProjectError if the dbt project does not parse.
    """
    project = prepared_project(settings)
    manifest = json.loads(project.manifest_path.read_bytes())
    builds = _Builds(settings, manifest, record_of(settings))

    @dg.multi_asset(
        name="marts",
        specs=list(asset_specs(manifest, partitions_def("daily", settings.partitions))),
        check_specs=check_specs(manifest),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),  # one run of dbt for any range
        op_tags={"dagster_dbt/select": "fqn:*"},  # what dagster-dbt runs if all is selected
        pool=POOL,
        allow_arbitrary_check_specs=True,
    )
    def marts(context: dg.AssetExecutionContext, config: MartsConfig, dbt: Dbt) -> Iterator[Any]:
        """Builds the selected marts with dbt, or says that nothing they select from changed."""
        models = _selected_models(context, manifest)
        attempt = context.retry_number
        with _final_errors(settings, attempt):
            fingerprints = builds.fingerprints(models)
            recorded = builds.record.read() if models else {}
        full = config.full_refresh or needs_full_refresh(recorded, fingerprints)
        known = unchanged(recorded, fingerprints)
        forced = config.force or context.run.tags.get(FORCE_TAG) == "true"
        arrived = run_range(context.run.tags) if forced else None
        if known and not (full or forced):
            context.log.info("nothing that these marts select from has changed")
            for model, key in models.items():
                yield from _unchanged(context, manifest, key, known[model])
            return
        arguments = ["build", "--exclude-resource-type", "unit_test"]
        if full:
            arguments.append("--full-refresh")
        folder = dbt.run_folder(context.run.run_id)
        if arrived:
            context.log.info(
                f"rows that arrived from {arrived[0]} to {arrived[1]} are computed again"
            )
        events, error = _run(context, dbt.over(arrived), manifest, arguments, folder)
        samples = failing_rows(settings, manifest, folder)
        events = [_sampled(e, samples) for e in events]
        if error is None:
            with _final_errors(settings, attempt):
                built = builds.describe(events, fingerprints, folder)
                builds.keep(built)
            yield from (_described(e, manifest, built) for e in events)
        else:
            yield from events
            may_pass = error.allow_retries
            raise again_or_final(error, settings.retries, attempt, again=may_pass) from error

    return [marts], {"dbt": dbt_resource(settings, project)}


@dataclass(frozen=True)
class _Builds:
    """The builds of the marts, and the record of them in their warehouse."""

    settings: "Settings"
    manifest: Mapping[str, Any]
    record: Record

    def fingerprints(self, models: Iterable[str]) -> dict[str, Fingerprint]:
        """The present fingerprint of each model's inputs."""
        sources = {m: upstream_sources(self.manifest, m) for m in models}
        if not sources:
            return {}
        versions = self.record.versions(set().union(*sources.values()))
        project = project_digest(self.settings.dbt_project)
        return {m: fingerprint(project, {t: versions[t] for t in s}) for m, s in sources.items()}

    def describe(
        self, events: Iterable[Any], fingerprints: Mapping[str, Fingerprint], folder: Path
    ) -> dict[str, Build]:
        """What dbt's events say of each model that it built."""
        nodes = self.manifest["nodes"]
        models = [_unique_id(e) for e in events if isinstance(e, dg.Output)]
        stored = {
            m: relation(nodes[m]) for m in models if nodes[m]["config"]["materialized"] != "view"
        }
        rows = self.record.count_rows(stored.values())
        checks: dict[tuple[str, ...], list[CheckOutcome]] = {}
        for e in events:
            if isinstance(e, dg.AssetCheckResult):
                key, outcome = _outcome(e)
                checks.setdefault(tuple(key.path), []).append(outcome)
        compiled = folder / "compiled" / self.manifest["metadata"]["project_name"]
        return {
            m: Build(
                model=m,
                fingerprint=fingerprints[m],
                rows=rows.get(relation(nodes[m])),
                checks=tuple(checks.get(relation(nodes[m]), ())),
                lineage=column_lineage(
                    self.manifest, m, (compiled / nodes[m]["original_file_path"]).read_text()
                ),
            )
            for m in models
        }

    def keep(self, built: Mapping[str, Build]) -> None:
        """Records the builds of a run of which every model and test passed."""
        if built:
            nodes = self.manifest["nodes"]
            self.record.write([(relation(nodes[m]), build) for m, build in built.items()])


def _selected_models(
    context: dg.AssetExecutionContext, manifest: Mapping[str, Any]
) -> dict[str, dg.AssetKey]:
    """The asset keys of the run's models by dbt id, parents first; empty if only checks are
    selected."""
    order = TopologicalSorter(manifest["parent_map"]).static_order()
    keys = {m: asset_key(manifest, m) for m in order if m.startswith("model.")}
    return {m: key for m, key in keys.items() if key in context.selected_asset_keys}


def _metadata(manifest: Mapping[str, Any], build: Build) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [
                    dg.TableColumnDep(asset_key(manifest, parent), name) for parent, name in parents
                ]
                for column, parents in build.lineage.items()
            }
        )
    }
    if build.rows is not None:
        metadata["dagster/row_count"] = build.rows
    return metadata


def _unique_id(built: dg.Output[Any]) -> str:
    """The dbt id of a model, by the event that it was built."""
    return str(built.metadata["unique_id"].value)


def _outcome(result: dg.AssetCheckResult) -> tuple[dg.AssetKey, CheckOutcome]:
    """The outcome of a test, and the asset that it is of."""
    if result.asset_key is None or result.check_name is None:
        raise TypeError("dagster-dbt gave the result of a test without its name or its asset")
    found = result.metadata.get("dagster_dbt/failed_row_count")
    failures = found.value if isinstance(found, dg.IntMetadataValue) else None
    return result.asset_key, CheckOutcome(
        result.check_name, result.passed, result.severity.value, failures or 0
    )


def _described(event: Any, manifest: Mapping[str, Any], built: Mapping[str, Build]) -> Any:
    if not isinstance(event, dg.Output):
        return event
    build = built[_unique_id(event)]
    return event.with_metadata({**event.metadata, **_metadata(manifest, build)})


def _sampled(event: Any, samples: Mapping[str, list[dict[str, str]]]) -> Any:
    """The result of a test with rows that failed it."""
    found = samples.get(event.check_name or "") if isinstance(event, dg.AssetCheckResult) else None
    if not found:
        return event
    return event._replace(metadata={**event.metadata, "sample": dg.MetadataValue.json(found)})


def _unchanged(
    context: dg.AssetExecutionContext,
    manifest: Mapping[str, Any],
    key: dg.AssetKey,
    build: Build,
) -> Iterator[dg.MaterializeResult[Any]]:
    """The materialization of a mart that is already what a build would give, with the outcomes of
    its tests when it was built."""
    selected = {c.name for c in context.selected_asset_check_keys if c.asset_key == key}
    yield dg.MaterializeResult(
        asset_key=key,
        metadata={"status": "unchanged", **_metadata(manifest, build)},
        check_results=[
            dg.AssetCheckResult(
                asset_key=key,
                check_name=c.name,
                passed=c.passed,
                severity=dg.AssetCheckSeverity(c.severity),
                metadata={FOUND: BEFORE, "dagster_dbt/failed_row_count": c.failures},
            )
            for c in build.checks
            if c.name in selected
        ],
    )


@contextmanager
def _final_errors(settings: "Settings", attempt: int) -> Iterator[None]:
    """Asks for another attempt where one may succeed, and makes all other errors final."""
    try:
        yield
    except Exception as error:
        raise failed(error, settings.retries, attempt, "marts") from error


def _run(
    context: dg.AssetExecutionContext,
    dbt: Dbt,
    manifest: Mapping[str, Any],
    arguments: list[str],
    folder: Path,
) -> tuple[list[Any], dg.Failure | None]:
    """Runs dbt to its end; returns its events and the error, if any. A test that failed, or SQL
    that cannot run, fails again on the same data; a file that could not be opened may be free."""
    from dagster_dbt.errors import DagsterDbtCliRuntimeError

    from lakehouse.marts.invocation import BuildContext  # imports dbt

    events: list[Any] = []
    try:
        building = BuildContext(context, manifest)
        events.extend(dbt.cli(arguments, context=building, target_path=folder).stream())
    except DagsterDbtCliRuntimeError as error:
        found = list(failures(folder))
        failed = "\n".join(f"- {f.name}: {f.message}" for f in found) or str(error)
        text = f"marts failed:\n{failed}\nCompiled SQL and the log are in {folder}."
        names = ", ".join(f.name for f in found) or "dbt did not run"  # messages may quote values
        metadata: dict[str, Any] = {ANNOUNCED: f"marts failed: {names}"}
        metadata |= {
            f"SQL of {f.name}": dg.MetadataValue.md(f"```sql\n{f.sql}\n```") for f in found if f.sql
        }
        return events, dg.Failure(text, metadata, allow_retries=may_pass(failed))
    return events, None
