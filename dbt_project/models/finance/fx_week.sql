{{ config(materialized='table') }}

with newest as (
    select max(as_of_date) as as_of from {{ ref('stg_fx_rates') }}
)

select
    rates.ccy,
    rates.rate_to_base,
    rates.as_of_date,
    rates.rate_category
from {{ ref('stg_fx_rates') }} as rates
cross join newest
where {{ in_last_days('rates.as_of_date', 'newest.as_of', 7) }}
order by rates.as_of_date desc, rates.ccy
