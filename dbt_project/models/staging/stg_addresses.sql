-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    address_id,
    customer_id,
    street,
    city,
    postal_code,
    is_default,
    op,
    is_deleted,
    position,
    updated_at
from {{ source('silver', 'addresses') }}
