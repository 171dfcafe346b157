-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    product_id,
    valid_from,
    valid_to,
    cost_usd,
    vendor,
    vendors
from {{ source('gold', 'product_costs') }}
