-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    opportunity_id,
    account_id,
    name,
    stage,
    amount,
    close_date,
    probability,
    created_at,
    last_modified_at,
    system_modstamp,
    is_deleted
from {{ source('silver', 'opportunities') }}
