{{ config(materialized='table') }}

with newest as (
    select max(order_date) as as_of from {{ ref('stg_orders') }}
),

spending as (
    select
        orders.customer_id,
        count(*) as order_count,
        sum(orders.amount_usd) as total_spent
    from {{ ref('stg_orders') }} as orders
    cross join newest
    where {{ in_last_days('orders.order_date', 'newest.as_of', 30) }}
    group by orders.customer_id
),

ranked as (
    select
        customer_id,
        order_count,
        total_spent,
        row_number() over (order by total_spent desc, customer_id) as spend_rank
    from spending
)

select
    cast(spend_rank as integer) as spend_rank,
    customer_id,
    cast(order_count as bigint) as order_count,
    cast(total_spent as decimal(18,2)) as total_spent,
    {{ average_order_value('total_spent', 'order_count') }} as avg_order_value
from ranked
where spend_rank <= 10
order by spend_rank
