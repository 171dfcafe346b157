{{ config(materialized='table') }}

with sold as (
    select
        sales.product_id,
        {{ month_of('sales.order_date') }} as order_month,
        sales.quantity,
        sales.amount_usd,
        costs.cost_usd
    from {{ ref('stg_fact_sales') }} as sales
    inner join {{ ref('order_revenue') }} as orders on sales.order_id = orders.order_id
    left join {{ ref('stg_product_costs') }} as costs
        on sales.product_id = costs.product_id
        and sales.order_date >= costs.valid_from
        and (costs.valid_to is null or sales.order_date < costs.valid_to)
    where orders.is_paid and not sales.is_returned
),

months as (
    select
        product_id,
        order_month,
        sum(quantity) as units_sold,
        sum(amount_usd) as revenue_usd,
        sum(case when cost_usd is not null then amount_usd end) as costed_revenue_usd,
        sum(cast(quantity * cost_usd as decimal(18,2))) as cost_usd
    from sold
    group by product_id, order_month
)

select
    months.order_month,
    months.product_id,
    cast(products.name as varchar) as product_name,
    cast(products.category as varchar) as category,
    cast(months.units_sold as decimal(18,2)) as units_sold,
    cast(months.revenue_usd as decimal(18,2)) as revenue_usd,
    cast(months.costed_revenue_usd as decimal(18,2)) as costed_revenue_usd,
    cast(months.cost_usd as decimal(18,2)) as cost_usd,
    cast(months.costed_revenue_usd - months.cost_usd as decimal(18,2)) as margin_usd
from months
left join {{ ref('stg_dim_product') }} as products on months.product_id = products.product_id
