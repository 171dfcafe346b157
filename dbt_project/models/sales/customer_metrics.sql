{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='customer_id',
        on_schema_change='fail',
        post_hook=[
            "{{ drop_vanished('customer_id', ref('current_customers')) }}",
            "{{ record_build() }}",
        ],
    )
}}

with newest as (
    select max(order_date) as as_of from {{ ref('stg_orders') }}
),

metrics as (
    select
        customers.customer_id,
        cast(coalesce(orders.order_count, 0) as bigint) as order_count,
        cast(coalesce(orders.paid_order_count, 0) as bigint) as paid_order_count,
        cast(coalesce(orders.gross_revenue_usd, 0) as decimal(18,2)) as gross_revenue_usd,
        cast(coalesce(orders.returns_usd, 0) as decimal(18,2)) as returns_usd,
        cast(coalesce(orders.net_revenue_usd, 0) as decimal(18,2)) as net_revenue_usd,
        {{ average_order_value('orders.gross_revenue_usd', 'orders.paid_order_count') }} as avg_order_value_usd,
        orders.first_order_date,
        orders.last_order_date,
        orders.last_purchase_date,
        coalesce({{ in_last_days('orders.last_purchase_date', 'newest.as_of', active_days()) }}, false) as is_active,
        cast({{ segment('coalesce(orders.net_revenue_usd, 0)') }} as varchar) as segment
    from {{ ref('current_customers') }} as customers
    cross join newest
    left join {{ ref('customer_orders') }} as orders on customers.customer_id = orders.customer_id
)

select * from metrics
{% if is_incremental() %}
where customer_id in (
    select customer_id from {{ changes('gold', 'dim_customer') }}
    union all
    select customer_id from {{ changes('silver', 'orders') }}
    union all
    select customer_id from {{ changes('gold', 'fact_sales') }}
    union all
    -- Nothing of the customer changed, but the newest order date has moved.
    select customer_id
    from {{ this }}
    cross join newest
    where is_active <> coalesce({{ in_last_days('last_purchase_date', 'newest.as_of', active_days()) }}, false)
)
{% endif %}
