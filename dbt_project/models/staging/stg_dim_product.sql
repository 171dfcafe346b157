-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    product_sk,
    product_id,
    name,
    category,
    brand,
    price,
    updated_at
from {{ source('gold', 'dim_product') }}
