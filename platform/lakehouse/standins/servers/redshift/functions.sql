-- What Redshift has and PostgreSQL lacks, for the stand-in: system views, functions, late binding,
-- the second half of COPY. Not here: clauses that are taken out of statements (statements.py).

create domain pg_catalog.super as jsonb;

create function pg_catalog.getdate() returns timestamp language sql as
    $$ select localtimestamp $$;

create function pg_catalog.dateadd(part text, number bigint, since timestamp) returns timestamp
language sql immutable as $$ select since + number * ('1 ' || part)::interval $$;

create function pg_catalog.json_parse(text) returns jsonb language sql immutable as
    $$ select $1::jsonb $$;

create function pg_catalog.json_serialize(jsonb) returns varchar language sql immutable as
    $$ select $1::varchar $$;

create function pg_catalog.strtol(text, base integer) returns bigint language sql immutable as
    $$ select case base when 16 then ('x' || lpad($1, 16, '0'))::bit(64)::bigint end $$;

create table pg_catalog.svv_external_columns (
    schemaname text, tablename text, columnname text, external_type text, columnnum integer,
    part_key integer, is_nullable text
);
grant select on pg_catalog.svv_external_columns to public;

create schema standin;

-- Views that are bound when they are queried -------------------------------------------------------

create sequence standin.late_binding_number;

create function standin.create_late_binding_view(relation text, query text)
returns void language plpgsql as $body$
declare
    function name := 'late_' || nextval('standin.late_binding_number');
    probe text := quote_ident(function || '_probe');
    columns text;
begin
    execute format('create temporary view %s as %s', probe, query);
    select string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)
    into columns from pg_attribute
    where attrelid = ('pg_temp.' || probe)::regclass and attnum > 0;
    execute format('drop view pg_temp.%s', probe);
    execute format(
        'create function standin.%I() returns table (%s) language plpgsql stable as %L',
        function, columns,
        format('#variable_conflict use_column%sbegin return query execute %L; end', chr(10), query));
    execute format('create view %s as select * from standin.%I()', relation, function);
end $body$;

create function pg_catalog.pg_get_late_binding_view_cols() returns setof record
language sql as $$
    select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)::varchar,
        a.attnum::integer
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.oid in (
        select r.ev_class
        from pg_depend d
        join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
        join pg_proc p on p.oid = d.refobjid and d.refclassid = 'pg_proc'::regclass
        where p.pronamespace = 'standin'::regnamespace
    )
$$;

-- COPY ---------------------------------------------------------------------------------------------

create function pg_catalog.pg_last_copy_count() returns integer language sql as
    $$ select coalesce(nullif(current_setting('standin.last_copy', true), ''), '0')::integer $$;

create function pg_catalog.pg_last_unload_count() returns bigint language sql as
    $$ select coalesce(nullif(current_setting('standin.last_unload', true), ''), '0')::bigint $$;

-- `files`: of each its address, the spooled text and its columns with their Parquet types.
create function standin.load(target text, wanted text, files json) returns void
language plpgsql as $body$
declare
    file json;
    expected text[];
    names text[];
    have integer;
    i integer;
    loaded integer;
    total integer := 0;
begin
    select array_agg(format_type(atttypid, atttypmod) order by attnum),
           array_agg(attname::text order by attnum)
    into expected, names from pg_attribute
    where attrelid = target::regclass and attnum > 0 and not attisdropped
        and (wanted = '' or attname = any (string_to_array(wanted, ',')));
    for file in select * from json_array_elements(files) loop
        have := json_array_length(file -> 'columns');
        if have <> cardinality(expected) then
            raise exception 'Spectrum Scan Error' using errcode = 'XX000', detail = format(
                'code: 15001 context: Unmatched number of columns between table and file. '
                'Table columns: %s, Data columns: %s, File name: %s',
                cardinality(expected), have, file ->> 'url');
        end if;
        for i in 1 .. have loop
            if not standin.fits(file -> 'columns' -> (i - 1) ->> 'type', expected[i]) then
                raise exception 'Spectrum Scan Error' using errcode = 'XX000', detail = format(
                    'code: 15007 context: File ''%s'' has an incompatible Parquet schema for '
                    'column ''%s''. Column type: %s, Parquet schema: %s', file ->> 'url',
                    names[i], expected[i], file -> 'columns' -> (i - 1) ->> 'type');
            end if;
        end loop;
        execute format('copy %s (%s) from %L (format csv, null %L)', target,
            (select string_agg(quote_ident(n), ', ') from unnest(names) n),
            file ->> 'spooled', '\N');
        get diagnostics loaded = row_count;
        total := total + loaded;
    end loop;
    perform set_config('standin.last_copy', total::text, false);
end $body$;

create function standin.fits(parquet text, declared text) returns boolean language sql as $$
    select case
        when parquet like 'decimal(%' then
            declared like 'numeric(%'
            and split_part(trim(parquet, 'decimal()'), ',', 2) = split_part(trim(declared, 'numeric()'), ',', 2)
            and split_part(trim(parquet, 'decimal()'), ',', 1)::int
                <= split_part(trim(declared, 'numeric()'), ',', 1)::int
        else (parquet, regexp_replace(declared, '\(\d+\)', '')) in (
            ('string', 'character varying'), ('boolean', 'boolean'), ('date', 'date'),
            ('smallint', 'smallint'), ('integer', 'integer'), ('bigint', 'bigint'),
            ('float', 'real'), ('double', 'double precision'), ('nested', 'super'),
            ('timestamp', 'timestamp without time zone'))
    end
$$;

create function standin.refuse(message text, detail text) returns void language plpgsql as
    $$ begin raise exception '%', message using errcode = 'XX000', detail = detail; end $$;
