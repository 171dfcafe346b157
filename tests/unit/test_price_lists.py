"""Price lists of vendors: what a product costs, and when."""

from datetime import date

from spark_jobs.tables.gold import product_costs
from spark_jobs.tables.silver import price_lists

ARRIVED = "'2026-10-06' as _partition, cast('2026-10-06' as date) as _arrival_date, 1 as _input"


def test_a_price_is_in_the_rate_of_the_day_on_which_its_list_came(sail):
    lists = sail.spark.sql(
        f"""select {ARRIVED}, 'Acme' as vendor, part_id, price, currency, '2026-11-01' as valid_from,
                   'a.csv' as source_file, received_at
            from values ('7', '10.50', 'eur', '2026-10-06T18:00:00+00:00'),
                        ('8', 'on request', 'EUR', '2026-10-06T18:00:00+00:00'),
                        ('9', '2', 'GBP', '2026-10-06T18:00:00+00:00'),
                        ('10', '2', 'EUR', '2026-10-13T00:00:00+00:00')
                 as v(part_id, price, currency, received_at)"""
    )
    rates = sail.spark.sql(
        """select ccy, cast(day as date) as as_of_date, cast(rate as decimal(20,10)) as rate_to_base
           from values ('EUR', '2026-10-06', 1.1), ('EUR', '2026-10-07', 1.3) as v(ccy, day, rate)"""
    )
    rows = price_lists.transform(lists, rates).toArrow().to_pylist()
    found = {r["product_id"]: (str(r["price"]), str(r["price_usd"])) for r in rows}
    assert found == {
        7: ("10.50", "11.55"),
        8: ("None", "None"),
        9: ("2.00", "None"),
        10: ("2.00", "None"),
    }
    assert {r["valid_from"] for r in rows} == {date(2026, 11, 1)}


def test_a_product_costs_the_least_that_a_vendor_asks_on_each_day(sail):
    asked = sail.spark.sql(
        f"""select {ARRIVED}, vendor, cast(product as bigint) as product_id,
                   cast(day as date) as valid_from, cast(price as decimal(18,2)) as price_usd
            from values ('Acme', 7, '2026-10-01', 10), ('Bolt', 7, '2026-10-03', 8),
                        ('Acme', 7, '2026-10-03', 9), ('Bolt', 7, '2026-10-05', 12),
                        ('Core', 8, '2026-10-02', 5), ('Bolt', 8, '2026-10-02', 5)
                 as v(vendor, product, day, price)"""
    )
    rows = product_costs.transform(asked).toArrow().to_pylist()
    names = ("product_id", "valid_from", "valid_to", "cost_usd", "vendor", "vendors", "_rows")
    first, third, fifth = (date(2026, 10, n) for n in (1, 3, 5))
    assert sorted(tuple(r[n] for n in names) for r in rows) == [
        (7, first, third, 10, "Acme", 1, 1),
        (7, third, fifth, 8, "Bolt", 2, 2),
        (7, fifth, None, 9, "Acme", 2, 1),
        (8, date(2026, 10, 2), None, 5, "Bolt", 2, 2),
    ]
