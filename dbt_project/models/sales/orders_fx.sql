{{ config(materialized='table') }}

with newest as (
    select max(order_date) as as_of from {{ ref('stg_orders') }}
)

select
    orders.order_id,
    orders.customer_id,
    orders.order_date,
    orders.currency,
    orders.total_amount,
    orders.usd_rate
from {{ ref('stg_orders') }} as orders
cross join newest
where {{ in_last_days('orders.order_date', 'newest.as_of', 7) }}
order by orders.order_date desc, orders.order_id
