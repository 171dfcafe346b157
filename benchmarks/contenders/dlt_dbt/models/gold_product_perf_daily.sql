{{ config(schema='gold', alias='product_perf_daily') }}
{{ published('audited_product_perf_daily', ['date', 'product_id']) }}
