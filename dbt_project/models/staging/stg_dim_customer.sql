-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    customer_sk,
    customer_id,
    name,
    email,
    phone,
    address,
    country,
    region,
    market_segment,
    loyalty_tier,
    is_deleted,
    valid_from,
    valid_to,
    is_current
from {{ source('gold', 'dim_customer') }}
