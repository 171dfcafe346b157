{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='order_month',
        on_schema_change='fail',
        post_hook=[
            "{{ drop_vanished('order_month', ref('order_revenue'), month_of('order_date')) }}",
            "{{ record_build() }}",
        ],
    )
}}

with orders as (
    select
        {{ month_of('revenue.order_date') }} as order_month,
        revenue.customer_id,
        coalesce(accounts.industry, 'Unknown') as industry,
        revenue.is_paid,
        revenue.gross_revenue_usd,
        revenue.returns_usd
    from {{ ref('order_revenue') }} as revenue
    left join {{ ref('customer_accounts') }} as accounts on revenue.customer_id = accounts.customer_id
)

select
    order_month,
    cast(industry as varchar) as industry,
    {{ revenue_measures() }}
from orders
{% if is_incremental() %}
where order_month in (
    select {{ month_of('order_date') }} from {{ changes('silver', 'orders') }}
    union all
    select {{ month_of('order_date') }} from {{ changes('gold', 'fact_sales') }}
    union all
    select order_month
    from orders
    where customer_id in (select customer_id from {{ changes('silver', 'accounts') }})
)
{% endif %}
group by order_month, industry
