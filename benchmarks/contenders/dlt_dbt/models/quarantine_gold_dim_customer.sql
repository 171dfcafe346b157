{{ config(schema='quarantine', alias='gold_dim_customer') }}
{{ quarantined('audited_dim_customer') }}
