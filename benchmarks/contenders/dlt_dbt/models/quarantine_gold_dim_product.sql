{{ config(schema='quarantine', alias='gold_dim_product') }}
{{ quarantined('audited_dim_product') }}
