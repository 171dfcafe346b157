select
    customer_id,
    trim(name) as name,
    email,
    phone,
    country
from {{ ref('stg_dim_customer') }}
where is_current and customer_sk <> 0
