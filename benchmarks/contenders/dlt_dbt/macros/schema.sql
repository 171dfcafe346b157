{% macro generate_schema_name(custom_schema_name, node) %}{{ custom_schema_name }}{% endmacro %}

{% macro text(name) %}nullif(trim({{ name }}), ''){% endmacro %}

{% macro not_null(columns) %}
{% set rules = {} %}
{% for c in columns %}{% do rules.update({c ~ '_not_null': c ~ ' is null'}) %}{% endfor %}
{{ return(rules) }}
{% endmacro %}

{# The names of the rules that a row breaks; null where it breaks none. #}
{% macro broken(rules) %}
    case when {% for c in rules.values() %}coalesce({{ c }}, false){{ " or " if not loop.last }}{% endfor %}
    then list_filter(
        [{% for n, c in rules.items() %}case when {{ c }} then '{{ n }}' end{{ ", " if not loop.last }}{% endfor %}],
        lambda name: name is not null
    ) end
{% endmacro %}

{# The valid rows of an audited model, the newest of each key. #}
{% macro published(audited, key, sequence=none) %}
    select * exclude (rules, record, run_id)
    from {{ ref(audited) }}
    where rules is null
    {% if sequence %}
    qualify row_number() over (
        partition by {{ key | join(', ') }} order by {{ sequence }} desc, _partition
    ) = 1
    {% endif %}
{% endmacro %}

{% macro quarantined(audited) %}
    select _partition as partition, rules, record, run_id, now() as quarantined_at
    from {{ ref(audited) }}
    where rules is not null
{% endmacro %}

{% macro currencies() %}
    ('USD', 'JPY', 'BGN', 'CYP', 'CZK', 'DKK', 'EEK', 'GBP', 'HUF', 'LTL', 'LVL', 'MTL', 'PLN',
     'ROL', 'RON', 'SEK', 'SIT', 'SKK', 'CHF', 'ISK', 'NOK', 'HRK', 'RUB', 'TRL', 'TRY', 'AUD',
     'BRL', 'CAD', 'CNY', 'HKD', 'IDR', 'ILS', 'INR', 'KRW', 'MXN', 'MYR', 'NZD', 'PHP', 'SGD',
     'THB', 'ZAR', 'EUR')
{% endmacro %}
