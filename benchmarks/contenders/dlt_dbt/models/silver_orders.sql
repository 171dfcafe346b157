{{ config(schema='silver', alias='orders') }}
{{ published('audited_orders', ['order_id'], 'updated_at') }}
