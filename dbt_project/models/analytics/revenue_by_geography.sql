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
        {{ month_of('order_date') }} as order_month,
        cast({{ dbt.dateadd('day', 1, 'order_date') }} as timestamp) as end_of_day,
        customer_id,
        is_paid,
        gross_revenue_usd,
        returns_usd
    from {{ ref('order_revenue') }}
),

located as (
    select
        orders.*,
        coalesce(customers.region, 'Unknown') as region,
        coalesce(customers.country, 'Unknown') as country
    from orders
    -- The customer as of the end of the order's day
    left join {{ ref('stg_dim_customer') }} as customers
        on orders.customer_id = customers.customer_id
        and customers.customer_sk <> 0
        and customers.valid_from < orders.end_of_day
        and (customers.valid_to >= orders.end_of_day or customers.valid_to is null)
)

select
    order_month,
    cast(region as varchar) as region,
    cast(country as varchar) as country,
    {{ revenue_measures() }}
from located
{% if is_incremental() %}
where order_month in (
    select {{ month_of('order_date') }} from {{ changes('silver', 'orders') }}
    union all
    select {{ month_of('order_date') }} from {{ changes('gold', 'fact_sales') }}
    union all
    select order_month
    from orders
    where customer_id in (select customer_id from {{ changes('gold', 'dim_customer') }})
)
{% endif %}
group by order_month, region, country
