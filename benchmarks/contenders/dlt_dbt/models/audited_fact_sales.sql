{{ config(schema='audited', alias='fact_sales', materialized='view') }}
{% set rules = not_null([
    'customer_sk', 'product_sk', 'date_sk', 'order_id', 'line_number', 'customer_id', 'product_id',
    'order_date', 'quantity', 'amount_usd', 'is_returned', 'updated_at',
]) %}
{% do rules.update({'amount_usd_range': 'amount_usd not between 0 and 1000000'})  %}
with lines as (
    select
        coalesce(c.customer_sk, 0) as customer_sk,
        coalesce(p.product_sk, 0) as product_sk,
        coalesce(strftime(order_date, '%Y%m%d')::int, 0) as date_sk,
        l.order_id,
        line_number,
        o.customer_id,
        l.product_id,
        order_date,
        quantity,
        cast(net_amount * usd_rate::decimal(19, 10) as decimal(18, 2)) as amount_usd,
        coalesce(return_flag, 'N') = 'R' as is_returned,
        l.updated_at,
        l._partition,
        l._arrival_date
    from {{ ref('silver_line_items') }} l
    left join {{ ref('silver_orders') }} o on l.order_id = o.order_id
    left join {{ ref('gold_dim_customer') }} c
        on o.customer_id = c.customer_id
        and c.valid_from <= o.order_date::timestamptz
        and (c.valid_to is null or c.valid_to > o.order_date::timestamptz)
    left join {{ ref('gold_dim_product') }} p on l.product_id = p.product_id
)

select *, {{ broken(rules) }} as rules, '' as record, '{{ invocation_id }}' as run_id
from lines
