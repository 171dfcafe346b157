{{ config(schema='audited', alias='line_items', materialized='view') }}
{% set rules = not_null([
    'order_id', 'line_number', 'product_id', 'quantity', 'extended_price', 'updated_at',
]) %}
{% do rules.update({
    'order_id_reference': 'order_id is not null and known_order is null',
    'product_id_reference': 'product_id is not null and known_product is null',
    'quantity_range': 'quantity <= 0',
    'extended_price_range': 'extended_price < 0',
    'discount_range': 'discount not between 0 and 1',
    'tax_range': 'tax not between 0 and 1',
    'return_flag_accepted_values': "return_flag not in ('R', 'A', 'N')",
})  %}
with cleaned as (
    select
        l.order_id,
        line_number,
        part_id as product_id,
        supplier_id,
        quantity,
        extended_price,
        discount,
        tax,
        cast(extended_price * (1 - discount) as decimal(18, 2)) as net_amount,
        return_flag,
        line_status,
        ship_date,
        commit_date,
        receipt_date,
        ship_instruct,
        ship_mode,
        l.comment,
        l.updated_at,
        l._partition,
        l._arrival_date,
        o.order_id as known_order,
        p.product_id as known_product,
        l as delivered
    from {{ source('bronze', 'line_items') }} l
    left join {{ ref('silver_orders') }} o on l.order_id = o.order_id
    left join {{ ref('silver_products') }} p on l.part_id = p.product_id
)

select
    * exclude (delivered, known_order, known_product),
    {{ broken(rules) }} as rules,
    case when rules is not null then to_json(delivered) end as record,
    cast(null as varchar[]) as _warnings,
    '{{ invocation_id }}' as run_id
from cleaned
