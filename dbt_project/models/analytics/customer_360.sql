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

with customers as (
    select * from {{ ref('current_customers') }}
    {% if is_incremental() %}
    where customer_id in (
        select customer_id from {{ changes('gold', 'dim_customer') }}
        union all
        select customer_id from {{ changes('silver', 'accounts') }}
        union all
        select customer_id from {{ changes('silver', 'addresses') }}
        union all
        select customer_id from {{ changes('silver', 'orders') }}
        union all
        select customer_id from {{ changes('gold', 'fact_sales') }}
        union all
        select customer_id from {{ changes('gold', 'fact_behavior') }}
    )
    {% endif %}
),

behavior as (
    select
        customer_id,
        count(*) as event_count,
        count(distinct event_source || session_id) as session_count,
        max(event_ts) as last_activity_at
    from {{ ref('stg_fact_behavior') }}
    group by customer_id
)

select
    customers.customer_id,
    cast(
        case
            when position(' ' in customers.name) > 0
                then substring(customers.name, 1, position(' ' in customers.name) - 1)
            else customers.name
        end as varchar
    ) as first_name,
    cast(
        case
            when position(' ' in customers.name) > 0
                then trim(substring(customers.name, position(' ' in customers.name) + 1))
        end as varchar
    ) as last_name,
    cast(customers.email as varchar) as email,
    cast(customers.phone as varchar) as phone,
    cast(accounts.account_id as varchar) as account_id,
    cast(accounts.account_name as varchar) as account_name,
    cast(accounts.industry as varchar) as industry,
    cast(accounts.city as varchar) as city,
    cast(accounts.state as varchar) as state,
    cast(coalesce(accounts.country, customers.country) as varchar) as country,
    cast(addresses.city as varchar) as delivery_city,
    cast(coalesce(orders.net_revenue_usd, 0) as decimal(18,2)) as lifetime_value_usd,
    cast(coalesce(orders.order_count, 0) as bigint) as total_orders,
    orders.last_order_date,
    cast(coalesce(behavior.event_count, 0) as bigint) as event_count,
    cast(coalesce(behavior.session_count, 0) as bigint) as session_count,
    cast(behavior.last_activity_at as timestamp) as last_activity_at
from customers
left join {{ ref('customer_accounts') }} as accounts on customers.customer_id = accounts.customer_id
left join {{ ref('delivery_addresses') }} as addresses on customers.customer_id = addresses.customer_id
left join {{ ref('customer_orders') }} as orders on customers.customer_id = orders.customer_id
left join behavior on customers.customer_id = behavior.customer_id
