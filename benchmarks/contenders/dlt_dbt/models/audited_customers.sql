{{ config(schema='audited', alias='customers', materialized='view') }}
{% set rules = not_null(['customer_id', 'name', 'updated_at']) %}
{% do rules.update({
    'market_segment_accepted_values':
        "market_segment not in ('AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY')",
})  %}
with cleaned as (
    select
        customer_id,
        {{ text('name') }} as name,
        {{ text('address') }} as address,
        nation_key,
        {{ text('country') }} as country,
        {{ text('region') }} as region,
        {{ text('phone') }} as phone,
        lower({{ text('email') }}) as email,
        account_balance,
        upper({{ text('market_segment') }}) as market_segment,
        comment,
        updated_at,
        _partition,
        _arrival_date,
        r as delivered
    from {{ source('bronze', 'customers') }} r
)

select
    * exclude (delivered),
    {{ broken(rules) }} as rules,
    case when rules is not null then to_json(delivered) end as record,
    case
        when not regexp_matches(email, '^[^@\s]+@[^@\s]+\.[^@\s]+$') then ['email_pattern']
    end as _warnings,
    '{{ invocation_id }}' as run_id
from cleaned
