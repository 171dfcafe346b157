{{ config(schema='quarantine', alias='silver_orders') }}
{{ quarantined('audited_orders') }}
