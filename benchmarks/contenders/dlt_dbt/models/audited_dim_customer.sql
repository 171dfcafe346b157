{{ config(schema='audited', alias='dim_customer', materialized='view') }}
{% set rules = not_null(['customer_sk', 'customer_id', 'valid_from']) %}
with members as (
    select
        hash(customer_id, updated_at) as customer_sk,
        customer_id,
        name,
        email,
        phone,
        address,
        country,
        region,
        market_segment,
        updated_at as valid_from,
        lead(updated_at) over (partition by customer_id order by updated_at) as valid_to,
        valid_to is null as is_current,
        _partition,
        _arrival_date
    from {{ ref('silver_customers') }}
    union all by name
    select
        0 as customer_sk,
        0 as customer_id,
        'Unknown' as name,
        timestamptz '1900-01-01 00:00:00+00' as valid_from,
        true as is_current,
        min(_partition) as _partition,
        min(_arrival_date) as _arrival_date
    from {{ ref('silver_customers') }}
)

select *, {{ broken(rules) }} as rules, '' as record, '{{ invocation_id }}' as run_id
from members
