select
    customer_id,
    count(*) as order_count,
    sum(case when is_paid then 1 else 0 end) as paid_order_count,
    cast(sum(gross_revenue_usd) as decimal(18,2)) as gross_revenue_usd,
    cast(sum(returns_usd) as decimal(18,2)) as returns_usd,
    cast(sum(gross_revenue_usd) - sum(returns_usd) as decimal(18,2)) as net_revenue_usd,
    min(order_date) as first_order_date,
    max(order_date) as last_order_date,
    max(case when is_paid then order_date end) as last_purchase_date
from {{ ref('order_revenue') }}
group by customer_id
