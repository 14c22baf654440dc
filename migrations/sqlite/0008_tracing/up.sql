-- When numbers were last traced, which are traced again, and what a file that is sent again needn't ask for (design 6 and 9).

-- `register_seen` is from here on what any source of demographics last said of a number, the national PDS too.

-- The instant at which demographics were asked for the newest answer; 0 when they never were.
alter table person add column traced_ms bigint not null default 0;
-- The same while the number is traced again; null when no authority shows a plan under it.
alter table person add column retrace_ms bigint default 0;
-- Until when a process has claimed the number, to trace it again.
alter table person add column claimed_ms bigint;
-- Since when demographics don't know the number, though it is stored.
alter table person add column unknown_ms bigint;
create index person_retrace on person (retrace_ms, id) where retrace_ms is not null;
create index person_unknown on person (unknown_ms) where unknown_ms is not null;

-- How far the pace at which numbers are traced again has come: one row.
create table retrace_pace (
    id bigint not null primary key,
    began_ms bigint not null,
    granted_ms bigint not null
);

-- What tracing the numbers of an authority's staged upload found, for a day: if it stops, it goes on from there. Never of a
-- restricted number, nor which number replaced another.
create table trace_result (
    authority_id bigint not null references organization (id),
    nhs_number text not null,
    asked_ms bigint not null,
    result text not null,
    family text,
    given text,
    birth_date date,
    deceased boolean not null default false,
    primary key (authority_id, nhs_number)
);
create index trace_result_asked on trace_result (asked_ms);
create index trace_result_number on trace_result (nhs_number);

-- Which entries a number replaced: when it is retired they are parted from it.
create index register_entry_replaced on register_entry (replaced_by) where replaced_by is not null;
