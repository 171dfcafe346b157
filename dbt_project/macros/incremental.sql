{#-
  What an incremental mart needs to equal its full refresh, whatever happened in the lake.

  An incremental mart recomputes whole keys: it takes the keys of every row that changed since it
  was last built (changes), replaces them (delete+insert), drops keys that are no longer there
  (drop_vanished) and records the versions it was built from, in the same transaction
  (record_build). A watermark on arrival time would miss replayed old partitions, rows that moved
  to another key, and deletions.
-#}

{#- The rows of a source that may differ from those this model was last built from: rows of data
    files that were added or removed since, and those that arrived in the days that a backfill is of.
    The whole source where that is not known. -#}
{% macro changes(layer, table) %}
    {%- set whole = source(layer, table) -%}
    {%- if execute and target.type == 'duckdb' -%}
        {%- set name = this.schema ~ '__' ~ this.identifier ~ '__' ~ layer ~ '__' ~ table -%}
        {%- set changed = adapter.get_relation(this.database, 'changes', name) -%}
        {%- set first = env_var('LAKEHOUSE_ARRIVED_FROM', '') -%}
        {%- if not (changed and first) -%}{{ return(changed or whole) }}{%- endif -%}
        {{ return(
            '(select * from ' ~ changed ~ ' union all by name select * from ' ~ whole
            ~ ' where left(_partition, 10) between \'' ~ first ~ '\' and \''
            ~ env_var('LAKEHOUSE_ARRIVED_TO', first) ~ '\')'
        ) }}
    {%- endif -%}
    {{ return(whole) }}
{% endmacro %}

{#- Post-hook: deletes the rows whose key the relation does not have (any more). -#}
{% macro drop_vanished(key, relation, expression=none) %}
    {%- if is_incremental() -%}
    delete from {{ this }} where {{ key }} not in (
        select {{ expression or key }} from {{ relation }} where {{ expression or key }} is not null
    )
    {%- endif -%}
{% endmacro %}

{#- Post-hook: records the versions of the sources, direct or not, that the model was built from. -#}
{% macro record_build() %}
    {%- if execute and target.type == 'duckdb' -%}
        {%- set sources = upstream_sources(model.unique_id) | unique | sort -%}
    insert or replace into lakehouse.built
    select '{{ this.schema }}.{{ this.identifier }}', source, table_id, version
    from lakehouse.pins where source in ('{{ sources | join("', '") }}')
    {%- endif -%}
{% endmacro %}

{% macro upstream_sources(unique_id) %}
    {%- set found = [] -%}
    {%- for parent in graph.nodes[unique_id].depends_on.nodes -%}
        {%- if parent in graph.sources -%}
            {%- do found.append(graph.sources[parent].source_name ~ '.' ~ graph.sources[parent].name) -%}
        {%- else -%}
            {%- do found.extend(upstream_sources(parent)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}
