-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    customer_sk,
    date_sk,
    event_source,
    event_id,
    customer_id,
    session_id,
    event_name,
    event_ts,
    event_date
from {{ source('gold', 'fact_behavior') }}
