with returned as (
    select
        order_id,
        sum(amount_usd) as returns_usd
    from {{ ref('stg_fact_sales') }}
    where is_returned
    group by order_id
),

orders as (
    select
        order_id,
        customer_id,
        order_date,
        amount_usd,
        order_status in ('PAID', 'SHIPPED') as is_paid
    from {{ ref('stg_orders') }}
)

select
    orders.order_id,
    orders.customer_id,
    orders.order_date,
    orders.is_paid,
    cast(case when orders.is_paid then orders.amount_usd else 0 end as decimal(18,2)) as gross_revenue_usd,
    cast(
        case when orders.is_paid then coalesce(returned.returns_usd, 0) else 0 end as decimal(18,2)
    ) as returns_usd
from orders
left join returned on orders.order_id = returned.order_id
