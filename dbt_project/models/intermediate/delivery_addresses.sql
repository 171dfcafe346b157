with ranked as (
    select
        customer_id,
        trim(city) as city,
        row_number() over (
            partition by customer_id
            order by updated_at desc, address_id
        ) as recency
    from {{ ref('stg_addresses') }}
    where is_default and not is_deleted
)

select
    customer_id,
    city
from ranked
where recency = 1
