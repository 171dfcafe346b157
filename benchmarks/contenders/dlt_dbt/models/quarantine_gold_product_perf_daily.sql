{{ config(schema='quarantine', alias='gold_product_perf_daily') }}
{{ quarantined('audited_product_perf_daily') }}
