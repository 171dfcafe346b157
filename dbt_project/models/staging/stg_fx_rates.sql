-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    ccy,
    as_of_date,
    rate_to_base,
    base_currency,
    rate_category,
    ingestion_timestamp
from {{ source('silver', 'fx_rates') }}
