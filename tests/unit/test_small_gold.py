"""Gold tables of the ERP, of HR and of the CRM: stock, staff and leads."""

from datetime import date

from spark_jobs.tables.gold import fact_inventory, headcount, lead_conversion
from spark_jobs.tables.silver import employees, leads

ARRIVED = "'2026-10-06' as _partition, cast('2026-10-06' as date) as _arrival_date, 1 as _input"


def test_stock_is_of_a_product_or_of_the_unknown_one_and_none_is_out_of_stock(sail):
    inventory = sail.spark.sql(
        f"""select {ARRIVED}, warehouse, cast(product as bigint) as product_id, on_hand,
                   cast('2026-10-05T18:30:00Z' as timestamp) as counted_at
            from values ('VIE', 7, 12), ('LYS', 7, 0), ('VIE', 9, 3) as v(warehouse, product, on_hand)"""
    )
    products = sail.spark.sql("select cast(7 as bigint) as product_id, 70L as product_sk")
    rows = fact_inventory.transform(inventory, products).toArrow().to_pylist()
    names = ("warehouse", "product_id", "product_sk", "date_sk", "on_hand", "is_out_of_stock")
    assert sorted(tuple(r[n] for n in names) for r in rows) == [
        ("LYS", 7, 70, 20261005, 0, True),
        ("VIE", 7, 70, 20261005, 12, False),
        ("VIE", 9, 0, 20261005, 3, False),
    ]


def test_headcount_has_nobody_s_data_and_counts_who_has_no_department(sail):
    staff = sail.spark.sql(
        f"""select {ARRIVED}, employee_id, 'Ada' as first_name, 'L' as last_name,
                   'a@example.com' as email, department, '1' as salary, hired_on,
                   '2026-10-06T08:00:00Z' as updated_at
            from values ('P1', 'IT', '2020-01-01'), ('P2', 'IT', '2024-05-01'), ('P3', '', null)
                 as v(employee_id, department, hired_on)"""
    )
    rows = headcount.transform(employees.transform(staff)).toArrow().to_pylist()
    assert sorted((r["department"], r["employees"], r["last_hired_on"]) for r in rows) == [
        ("IT", 2, date(2024, 5, 1)),
        ("Unknown", 1, None),
    ]
    assert rows[0].keys() == {"department", "employees", "last_hired_on", "_partition", "_rows"}


def test_the_rate_of_conversion_is_of_closed_leads_that_are_not_deleted(sail):
    found = sail.spark.sql(
        f"""select {ARRIVED}, id as Id, '' as FirstName, '' as LastName, '' as Email, '' as Phone,
                   'Acme' as Company, Status, LeadSource, '' as CreatedDate,
                   '' as LastModifiedDate, '2026-10-06T08:00:00Z' as SystemModstamp, IsDeleted
            from values ('1', 'Closed - Converted', 'Web', null),
                        ('2', 'Closed - Not Converted', 'Web', 'false'),
                        ('6', 'Closed - Converted', 'Web', 'true'),
                        ('3', 'Closed - Not Converted', 'Web', 'false'),
                        ('4', 'Working - Contacted', 'Web', 'false'),
                        ('5', 'Open - Not Contacted', null, 'false')
                 as v(id, Status, LeadSource, IsDeleted)"""
    )
    rows = lead_conversion.transform(leads.transform(found)).toArrow().to_pylist()
    names = ("lead_source", "leads", "open_leads", "converted", "conversion_rate")
    rates = sorted(tuple(str(r[n]) for n in names) for r in rows)
    assert rates == [("Unknown", "1", "1", "0", "None"), ("Web", "4", "1", "1", "0.3333")]
