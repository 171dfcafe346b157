{{ config(schema='quarantine', alias='gold_fact_sales') }}
{{ quarantined('audited_fact_sales') }}
