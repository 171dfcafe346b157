{#- The metric rules, each in one place. -#}

{#- A date within the last so many days, counted back from and including the newest date. -#}
{% macro in_last_days(column, newest, days) -%}
    {{ column }} > cast({{ dbt.dateadd('day', -days, newest) }} as date)
{%- endmacro %}

{#- Days since the last purchase during which a customer counts as active. -#}
{% macro active_days() %}{{ return(90) }}{% endmacro %}

{#- The one customer segmentation, by lifetime value in US dollars. -#}
{% macro segment(lifetime_value_usd) -%}
    case
        when {{ lifetime_value_usd }} > 10000 then 'Platinum'
        when {{ lifetime_value_usd }} >= 5000 then 'Gold'
        when {{ lifetime_value_usd }} >= 1000 then 'Silver'
        else 'Bronze'
    end
{%- endmacro %}

{#- US dollars per paid order, rounded half up, null without any. In whole cents: one warehouse
    divides decimals as doubles, the other cuts off what is beyond its scale. -#}
{% macro average_order_value(gross_usd, paid_orders) -%}
    {%- set cents = 'cast(' ~ gross_usd ~ ' * 100 as bigint)' -%}
    {%- set orders = 'nullif(cast(' ~ paid_orders ~ ' as bigint), 0)' -%}
    {%- set twice = '(2 * abs(' ~ cents ~ ') + ' ~ orders ~ ')' -%}
    cast(
        cast(
            case when {{ cents }} < 0 then -1 else 1 end
            * {{ whole_quotient(twice, '(2 * ' ~ orders ~ ')') }} as decimal(18,0)
        ) * cast(0.01 as decimal(3,2)) as decimal(18,2)
    )
{%- endmacro %}

{#- The quotient of two integers without its fraction. -#}
{% macro whole_quotient(dividend, divisor) -%}
    {{ return(adapter.dispatch('whole_quotient')(dividend, divisor)) }}
{%- endmacro %}

{% macro default__whole_quotient(dividend, divisor) -%}
    {{ return('(' ~ dividend ~ ' / ' ~ divisor ~ ')') }}
{%- endmacro %}

{% macro duckdb__whole_quotient(dividend, divisor) -%}
    {{ return('(' ~ dividend ~ ' // ' ~ divisor ~ ')') }}
{%- endmacro %}

{% macro month_of(date_column) -%}
    cast({{ dbt.date_trunc('month', date_column) }} as date)
{%- endmacro %}

{#- The measures of a revenue mart, over rows of order_revenue. -#}
{% macro revenue_measures() -%}
    cast(sum(case when is_paid then 1 else 0 end) as bigint) as paid_order_count,
    cast(count(distinct case when is_paid then customer_id end) as bigint) as paying_customer_count,
    cast(sum(gross_revenue_usd) as decimal(18,2)) as gross_revenue_usd,
    cast(sum(returns_usd) as decimal(18,2)) as returns_usd,
    cast(sum(gross_revenue_usd) - sum(returns_usd) as decimal(18,2)) as net_revenue_usd,
    {{ average_order_value('sum(gross_revenue_usd)', 'sum(case when is_paid then 1 else 0 end)') }}
        as avg_order_value_usd
{%- endmacro %}
