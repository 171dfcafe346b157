{{ config(schema='audited', alias='orders', materialized='view') }}
{% set rules = not_null([
    'order_id', 'customer_id', 'order_date', 'order_status', 'total_amount', 'currency',
    'usd_rate', 'updated_at',
]) %}
{% do rules.update({
    'customer_id_reference': 'customer_id is not null and known_customer is null',
    'order_status_accepted_values': "order_status not in ('PLACED', 'PAID', 'SHIPPED')",
    'total_amount_range': 'total_amount < 0',
    'currency_accepted_values': 'currency not in ' ~ currencies(),
})  %}
with days as (
    -- Each quotation on the days that it holds for: until the next one, at most 5 days on.
    select
        ccy,
        cast(as_of_date + o.days as date) as day,
        arg_max(rate_to_base, as_of_date) as usd_rate,
        max(as_of_date) as rate_date
    from {{ ref('silver_fx_rates') }}, (select unnest(range(6))::int as days) o
    group by 1, 2
),

customers as (
    select distinct customer_id as known_customer from {{ ref('silver_customers') }}
),

cleaned as (
    select
        order_id,
        customer_id,
        order_date,
        case status when 'O' then 'PLACED' when 'P' then 'PAID' when 'F' then 'SHIPPED'
            else status end as order_status,
        total_price::decimal(18, 2) as total_amount,
        upper({{ text('r.currency') }}) as currency,
        priority,
        clerk,
        ship_priority,
        comment,
        updated_at,
        _partition,
        _arrival_date,
        r as delivered
    from {{ source('bronze', 'orders') }} r
),

priced as (
    select
        cleaned.*,
        usd_rate,
        rate_date,
        cast(total_amount * usd_rate::decimal(19, 10) as decimal(18, 2)) as amount_usd,
        known_customer
    from cleaned
    left join days on currency = ccy and order_date = day
    left join customers on customer_id = known_customer
)

select
    * exclude (delivered, known_customer),
    {{ broken(rules) }} as rules,
    case when rules is not null then to_json(delivered) end as record,
    case when total_amount > 1000000 then ['total_amount_plausible'] end as _warnings,
    '{{ invocation_id }}' as run_id
from priced
