"""A chart is a drawing that the UI shows in place: well-formed, short, and true to its numbers."""

from __future__ import annotations

import re
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

from lakehouse.assets.charts import IN_PLACE, Bar, rows_chart, rows_image

MANY = [Bar(f"10-05T{i:02d}", 1_400_000 - i * 9_973, i * 1_301) for i in range(30)]


@pytest.mark.parametrize("count", [2, 3, 14, 30])
def test_is_short_enough_to_be_shown_in_place(count: int) -> None:
    assert len(rows_image(MANY[-count:])) < IN_PLACE


def test_keeps_the_newest_partitions_where_not_all_fit() -> None:
    text = rows_image(MANY)
    assert "10-05T29" in text
    kept = int(re.search(r"last (\d+) partitions", text).group(1))
    assert 20 <= kept < 30


def test_survives_markdown_and_the_address() -> None:
    text = rows_image(MANY[:3])
    address = re.fullmatch(r"!\[[^\]]*\]\((\S+)\)", text).group(1)
    assert not set(address) & set(' "#\n')
    assert unquote(address).removeprefix("data:image/svg+xml,") == rows_chart(MANY[:3])


def test_tells_the_top_of_both_scales() -> None:
    svg = rows_chart([Bar("10-05", 90, 10), Bar("10-06 & more", 50, 0)])
    texts = [e.text for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["rows, to 100", "10-05", "quarantined, to 10.0%", "10-06 & more"]


@pytest.mark.parametrize("bars", [[], [Bar("10-05", 0, 0)], [Bar("10-05", 5, 0)] * 2])
def test_draws_nothing_much_without_breaking(bars: list[Bar]) -> None:
    ET.fromstring(rows_chart(bars))
