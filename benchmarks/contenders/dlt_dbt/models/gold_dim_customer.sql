{{ config(schema='gold', alias='dim_customer') }}
{{ published('audited_dim_customer', ['customer_id', 'valid_from']) }}
