{{ config(schema='audited', alias='dim_product', materialized='view') }}
{% set rules = not_null(['product_sk', 'product_id', 'updated_at']) %}
with members as (
    select
        hash(product_id) as product_sk,
        product_id,
        name,
        category,
        brand,
        price,
        updated_at,
        _partition,
        _arrival_date
    from {{ ref('silver_products') }}
    union all by name
    select
        0 as product_sk,
        0 as product_id,
        'Unknown' as name,
        'UNKNOWN' as category,
        timestamptz '1900-01-01 00:00:00+00' as updated_at,
        min(_partition) as _partition,
        min(_arrival_date) as _arrival_date
    from {{ ref('silver_products') }}
)

select *, {{ broken(rules) }} as rules, '' as record, '{{ invocation_id }}' as run_id
from members
