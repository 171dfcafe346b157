{{ config(schema='audited', alias='products', materialized='view') }}
{% set rules = not_null(['product_id', 'name', 'category', 'updated_at']) %}
{% do rules.update({'price_range': 'price < 0'})  %}
with cleaned as (
    select
        part_id as product_id,
        {{ text('name') }} as name,
        {{ text('manufacturer') }} as manufacturer,
        {{ text('brand') }} as brand,
        coalesce({{ text('category') }}, 'UNKNOWN') as category,
        size,
        container,
        retail_price as price,
        comment,
        updated_at,
        _partition,
        _arrival_date,
        r as delivered
    from {{ source('bronze', 'products') }} r
)

select
    * exclude (delivered),
    {{ broken(rules) }} as rules,
    case when rules is not null then to_json(delivered) end as record,
    cast(null as varchar[]) as _warnings,
    '{{ invocation_id }}' as run_id
from cleaned
