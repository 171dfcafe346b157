-- Generated from the contracts by `lakehouse.marts.sources`; change a contract, not this file.
select
    contact_id,
    account_id,
    first_name,
    last_name,
    email,
    phone,
    created_at,
    last_modified_at,
    system_modstamp,
    is_deleted
from {{ source('silver', 'contacts') }}
