{{ config(schema='silver', alias='products') }}
{{ published('audited_products', ['product_id'], 'updated_at') }}
