{{ config(schema='gold', alias='fact_sales') }}
{{ published('audited_fact_sales', ['order_id', 'line_number']) }}
