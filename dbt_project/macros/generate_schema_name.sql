{#- A model's schema is the one it names, on every target: marts are sales.*, analytics.*, finance.* -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
