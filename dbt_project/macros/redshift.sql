{#- What models want of Redshift alone. -#}

{#- Pre-hook: how long a statement may take, in milliseconds. -#}
{% macro statement_timeout() -%}
    {%- if target.type == 'redshift' -%}
    set statement_timeout to {{ env_var('LAKEHOUSE_REDSHIFT_STATEMENT_TIMEOUT', '1800000') }}
    {%- endif -%}
{%- endmacro %}
