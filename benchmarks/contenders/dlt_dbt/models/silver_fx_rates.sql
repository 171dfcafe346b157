{{ config(schema='silver', alias='fx_rates') }}
{{ published('audited_fx_rates', ['ccy', 'as_of_date'], 'ingestion_timestamp') }}
