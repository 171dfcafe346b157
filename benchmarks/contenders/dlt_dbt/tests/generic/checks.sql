{% test unique_key(model, columns) %}
select {{ columns | join(', ') }} from {{ model }}
group by all having count(*) > 1 limit 1
{% endtest %}

{# Days of which too many rows are in quarantine. #}
{% test quarantine_rate(model, of, most) %}
select q.partition
from (select partition, count(*) as bad from {{ model }} group by partition) q
left join (select _partition, count(*) as good from {{ ref(of) }} group by _partition) p
    on q.partition = p._partition
where bad > {{ most }} * (bad + coalesce(good, 0))
{% endtest %}

{% test any_rows(model) %}
select 1 where (select count(*) from {{ model }}) = 0
{% endtest %}
