-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    account_id,
    name,
    account_type,
    industry,
    annual_revenue,
    billing_street,
    billing_city,
    billing_state,
    billing_postal_code,
    billing_country,
    phone,
    website,
    customer_id,
    created_at,
    last_modified_at,
    system_modstamp,
    is_deleted
from {{ source('silver', 'accounts') }}
