{{ config(schema='audited', alias='product_perf_daily', materialized='view') }}
{% set rules = not_null([
    'date', 'product_id', 'order_count', 'total_quantity', 'revenue_usd', 'unique_customers',
]) %}
{% do rules.update({
    'product_id_reference': 'product_id is not null and known_product is null',
    'revenue_usd_range': 'revenue_usd < 0',
})  %}
with days as (
    select
        order_date as date,
        product_id,
        max(_partition) as _partition,
        count(distinct order_id) as order_count,
        sum(quantity)::decimal(18, 2) as total_quantity,
        sum(amount_usd)::decimal(18, 2) as revenue_usd,
        (round((sum(amount_usd) * 100)::double / count(*))::bigint / 100.0)::decimal(18, 2)
            as avg_order_value_usd,
        max(amount_usd) as max_order_value_usd,
        min(amount_usd) as min_order_value_usd,
        count(distinct customer_id) as unique_customers
    from {{ ref('gold_fact_sales') }}
    group by 1, 2
),

checked as (
    select days.*, p.product_id as known_product
    from days
    left join {{ ref('silver_products') }} p on days.product_id = p.product_id
)

select
    * exclude (known_product),
    {{ broken(rules) }} as rules,
    '' as record,
    '{{ invocation_id }}' as run_id
from checked
