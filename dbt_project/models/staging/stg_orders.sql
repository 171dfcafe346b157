-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    order_id,
    customer_id,
    order_date,
    order_status,
    total_amount,
    currency,
    usd_rate,
    rate_date,
    amount_usd,
    priority,
    clerk,
    ship_priority,
    comment,
    updated_at
from {{ source('silver', 'orders') }}
