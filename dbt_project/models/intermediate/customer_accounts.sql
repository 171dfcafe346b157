with ranked as (
    select
        customer_id,
        account_id,
        name as account_name,
        industry,
        billing_city as city,
        billing_state as state,
        billing_country as country,
        row_number() over (
            partition by customer_id
            order by system_modstamp desc, account_id
        ) as recency
    from {{ ref('stg_accounts') }}
    where customer_id is not null and is_deleted is not true
)

select
    customer_id,
    account_id,
    account_name,
    industry,
    city,
    state,
    country
from ranked
where recency = 1
