"""Text from data does nothing to the terminal or the page that shows it."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from lakehouse.assets.checks import lookups_evaluation
from lakehouse.assets.reporting import _sample
from lakehouse.cli.terminal import data
from spark_jobs import quoting
from spark_jobs.batch.outcomes import drift_text
from spark_jobs.errors import InputError
from spark_jobs.report import Check, PartitionReport

HOSTILE = "a\x1b[31mb\x07\x9bc\r\nd\u202ee\u2028f\x00"


def test_no_control_character_reaches_a_terminal() -> None:
    said = [
        quoting.plain(HOSTILE),
        str(InputError(HOSTILE)).replace("\n", ""),
        Check(name="c", passed=False, detail=HOSTILE).detail,
        PartitionReport(partition="p", status="failed", error=HOSTILE).error,
        *drift_text({"extra": {HOSTILE: []}, "missing": []}),
    ]
    for text in said:
        assert text.isprintable(), text
        assert "\\u001b[31m" in text


def test_letters_of_every_alphabet_stay_as_they_are() -> None:
    assert quoting.plain("Größe 東京 مرحبا €") == "Größe 東京 مرحبا €"


def test_json_stays_json() -> None:
    text = quoting.plain(json.dumps({"k": HOSTILE}, ensure_ascii=False))
    assert text.isprintable() and json.loads(text) == {"k": HOSTILE}


def test_a_long_name_and_many_names_are_cut_and_counted() -> None:
    assert len(quoting.name("x" * 100_000)) < 100 and "100000" in quoting.name("x" * 100_000)
    assert quoting.names(map(str, range(1000))).endswith("9 and 990 more")


def test_a_drifting_column_is_named_and_none_of_its_values_is() -> None:
    text = drift_text({"extra": {"new": ["ada@lovelace.org"]}, "missing": ["old"]})
    assert text == ["new column new", "column old missing, read as null"]


def test_markup_in_data_is_not_taken_for_the_terminals() -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard").print(
        f"[red]x[/] {data('[green]not[/] [link=http://a]this')}", highlight=False
    )
    assert "[green]not[/] [link=http://a]this" in out.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "[a](http://evil.example)",
        "![a](http://evil.example/x.png)",
        "<img src=x onerror=alert(1)>",
        "<http://evil.example>",
        "http://evil.example",
        "**bold**",
        "`code`",
        "| a | b |",
        "a\n\n# heading",
    ],
)
def test_markup_in_data_is_not_taken_for_the_pages(text: str) -> None:
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(quoting.markdown(text))
    for tag in ("<a", "<img", "<strong", "<code", "<table", "<h1"):
        assert tag not in page


def test_a_span_of_code_cannot_be_left() -> None:
    row = f"| x |\n|---|\n| {quoting.code('a` <b> | [c](http://d) `')} |"
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(row)
    assert page.count("<td>") == 1 and "<b>" not in page and "<a" not in page


def test_what_a_check_says_of_names_is_text_on_its_page() -> None:
    hostile = "a | <img src=x> [b](http://evil.example)"
    stale = {"2026-10-05": hostile}
    contract = SimpleNamespace(layer="silver", name="orders", table="silver.orders")
    metadata = lookups_evaluation(contract, stale).metadata  # type: ignore[arg-type]
    sampled = [{"partition": hostile, "rules": [hostile], "record": "{}", "source_file": hostile}]
    for table in (metadata["stale"].value, _sample(sampled)):
        page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(table)
        assert "<img" not in page and "<a" not in page
        assert page.count("<td>") == page.count("<th>")
