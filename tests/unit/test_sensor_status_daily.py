"""Freezer temperatures per sensor and day."""

from spark_jobs.tables.gold.sensor_status_daily import transform


def test_readings_of_all_hours_of_a_day_become_one_row_per_sensor(sail):
    readings = sail.spark.sql(
        """select '2026-10-06' as _partition, sensor_id, cast(day as date) as reading_date,
                  'dock' as location, status,
                  cast(celsius as decimal(6,2)) as temperature_celsius
           from values ('a', '2026-10-06', -18.5, 'normal'), ('a', '2026-10-06', -9.5, 'warning'),
                       ('a', '2026-10-06', 2.01, 'critical'), ('b', '2026-10-06', -20, 'normal'),
                       ('a', '2026-10-05', -17, 'normal')
                as readings(sensor_id, day, celsius, status)"""
    )
    rows = transform(readings).orderBy("sensor_id", "date").toArrow().to_pylist()
    assert [
        (r["sensor_id"], str(r["date"]), r["readings"], str(r["min_temperature_celsius"]),
         str(r["avg_temperature_celsius"]), str(r["max_temperature_celsius"]),
         r["warning_readings"], r["critical_readings"])
        for r in rows
    ] == [
        ("a", "2026-10-05", 1, "-17.00", "-17.00", "-17.00", 0, 0),
        ("a", "2026-10-06", 3, "-18.50", "-8.66", "2.01", 1, 1),
        ("b", "2026-10-06", 1, "-20.00", "-20.00", "-20.00", 0, 0),
    ]  # fmt: skip
