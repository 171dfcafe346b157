{{ config(schema='silver', alias='line_items') }}
{{ published('audited_line_items', ['order_id', 'line_number'], 'updated_at') }}
