{{ config(schema='quarantine', alias='silver_line_items') }}
{{ quarantined('audited_line_items') }}
