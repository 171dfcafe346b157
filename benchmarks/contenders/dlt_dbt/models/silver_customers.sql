{{ config(schema='silver', alias='customers') }}
{{ published('audited_customers', ['customer_id', 'updated_at'], 'updated_at') }}
