{{ config(schema='quarantine', alias='silver_fx_rates') }}
{{ quarantined('audited_fx_rates') }}
