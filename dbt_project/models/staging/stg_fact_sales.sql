-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    customer_sk,
    product_sk,
    date_sk,
    order_id,
    line_number,
    customer_id,
    product_id,
    order_date,
    quantity,
    amount_usd,
    is_returned,
    updated_at
from {{ source('gold', 'fact_sales') }}
