{{ config(schema='gold', alias='dim_product') }}
{{ published('audited_dim_product', ['product_id']) }}
