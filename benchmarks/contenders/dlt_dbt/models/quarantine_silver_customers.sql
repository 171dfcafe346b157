{{ config(schema='quarantine', alias='silver_customers') }}
{{ quarantined('audited_customers') }}
