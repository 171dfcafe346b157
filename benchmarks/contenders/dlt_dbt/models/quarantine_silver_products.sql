{{ config(schema='quarantine', alias='silver_products') }}
{{ quarantined('audited_products') }}
