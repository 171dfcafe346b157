-- Every paid order counts once, by customer, by country and by industry.
{{ config(meta={'dagster': {'ref': {'name': 'revenue_by_geography'}}}) }}

with totals as (
    select 'order_revenue' as side, sum(gross_revenue_usd) as gross, sum(returns_usd) as returned
    from {{ ref('order_revenue') }}
    union all
    select 'revenue_by_geography', sum(gross_revenue_usd), sum(returns_usd)
    from {{ ref('revenue_by_geography') }}
    union all
    select 'revenue_by_industry', sum(gross_revenue_usd), sum(returns_usd)
    from {{ ref('revenue_by_industry') }}
)

select *
from totals
where gross <> (select gross from totals where side = 'order_revenue')
    or returned <> (select returned from totals where side = 'order_revenue')
