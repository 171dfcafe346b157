{{ config(materialized='table') }}

with people as (
    select
        account_id,
        count(*) as contact_count
    from {{ ref('stg_contacts') }}
    where is_deleted is not true
    group by account_id
),

deals as (
    select
        account_id,
        sum(case when stage like 'Closed%' then 0 else 1 end) as open_count,
        sum(case when stage like 'Closed%' then 0 else amount end) as open_amount_usd,
        sum(case when stage = 'Closed Won' then 1 else 0 end) as won_count,
        sum(case when stage = 'Closed Won' then amount else 0 end) as won_amount_usd
    from {{ ref('stg_opportunities') }}
    where is_deleted is not true
    group by account_id
)

select
    cast(accounts.account_id as varchar) as account_id,
    cast(accounts.name as varchar) as account_name,
    cast(accounts.industry as varchar) as industry,
    accounts.customer_id,
    cast(coalesce(people.contact_count, 0) as bigint) as contact_count,
    cast(coalesce(deals.open_count, 0) as bigint) as open_opportunity_count,
    cast(coalesce(deals.open_amount_usd, 0) as decimal(18,2)) as open_amount_usd,
    cast(coalesce(deals.won_count, 0) as bigint) as won_opportunity_count,
    cast(coalesce(deals.won_amount_usd, 0) as decimal(18,2)) as won_amount_usd
from {{ ref('stg_accounts') }} as accounts
left join people on accounts.account_id = people.account_id
left join deals on accounts.account_id = deals.account_id
where accounts.is_deleted is not true
