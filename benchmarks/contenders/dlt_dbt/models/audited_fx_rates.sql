{{ config(schema='audited', alias='fx_rates', materialized='view') }}
{% set rules = not_null(['ccy', 'as_of_date', 'rate_to_base']) %}
{% do rules.update({
    'as_of_date_type': "trim(coalesce(delivered_date, '')) != '' and as_of_date is null",
    'rate_to_base_type': "trim(coalesce(delivered_rate, '')) != '' and rate_to_base is null",
    'ccy_accepted_values': 'ccy not in ' ~ currencies(),
    'rate_to_base_positive': 'not (rate_to_base > 0)',
})  %}
with quotes as (
    select
        upper({{ text('ccy') }}) as ccy,
        try_cast({{ text('as_of_date') }} as date) as as_of_date,
        try_cast({{ text('rate') }} as decimal(18, 6)) as rate,
        rate as delivered_rate,
        as_of_date as delivered_date,
        _partition,
        _arrival_date,
        to_json(r) as record
    from {{ source('bronze', 'fx_rates') }} r
    where coalesce({{ text('rate') }}, '') != 'N/A'
),

dollars as (
    select as_of_date as usd_date, max(rate) as usd
    from quotes
    where ccy = 'USD' and rate is not null
    group by 1
),

rebased as (
    select
        ccy,
        as_of_date,
        cast(usd::double / nullif(rate, 0)::double as decimal(20, 10)) as rate_to_base,
        'USD' as base_currency,
        case
            when ccy in ('USD', 'EUR', 'GBP', 'JPY', 'CHF', 'CAD', 'AUD', 'NZD') then 'major'
            when regexp_full_match(ccy, '[A-Z]{3}') then 'minor'
            else 'exotic'
        end as rate_category,
        cast(_partition as timestamptz) as ingestion_timestamp,
        delivered_rate,
        delivered_date,
        _partition,
        _arrival_date,
        record
    from quotes
    left join dollars on as_of_date = usd_date
)

select
    * exclude (delivered_rate, delivered_date),
    {{ broken(rules) }} as rules,
    case when rate_to_base > 1000 then ['rate_to_base_plausible'] end as _warnings,
    '{{ invocation_id }}' as run_id
from rebased
