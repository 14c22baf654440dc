-- Histories: versions are numbered in the order in which they are recorded, and those of organisations are kept too.

-- A version's `id` is given under the lock of its authority, whose column saves a history a walk past the others' rows.
alter table plan_version add column id bigint, add column authority_id bigint references organization (id);
update plan_version v set id = n.id, authority_id = n.authority_id
    from (select v.plan_id, v.version, c.authority_id,
                 row_number() over (order by v.recorded_ms, v.upload_id, v.plan_id, v.version) as id
          from plan_version v join plan p on p.id = v.plan_id join authority_child c on c.id = p.child_id) n
    where n.plan_id = v.plan_id and n.version = v.version;
alter table plan_version drop constraint plan_version_pkey, alter column id set not null, alter column authority_id set not null;
alter table plan_version add primary key (id), add unique (plan_id, version);
alter table plan_version alter column id add generated always as identity;
select setval(pg_get_serial_sequence('plan_version', 'id'), (select coalesce(max(id), 0) + 1 from plan_version), false);

alter table authority_child_version add column id bigint, add column authority_id bigint references organization (id);
update authority_child_version v set id = n.id, authority_id = n.authority_id
    from (select v.child_id, v.version, c.authority_id,
                 row_number() over (order by v.recorded_ms, v.upload_id, v.child_id, v.version) as id
          from authority_child_version v join authority_child c on c.id = v.child_id) n
    where n.child_id = v.child_id and n.version = v.version;
alter table authority_child_version drop constraint authority_child_version_pkey, alter column id set not null, alter column authority_id set not null;
alter table authority_child_version add primary key (id), add unique (child_id, version);
alter table authority_child_version alter column id add generated always as identity;
select setval(pg_get_serial_sequence('authority_child_version', 'id'), (select coalesce(max(id), 0) + 1 from authority_child_version), false);

create index plan_version_authority on plan_version (authority_id, id);
create index plan_version_recorded on plan_version (authority_id, recorded_ms, id);
create index plan_version_upload on plan_version (upload_id, id);
create index authority_child_version_authority on authority_child_version (authority_id, id);
create index authority_child_version_recorded on authority_child_version (authority_id, recorded_ms, id);
create index authority_child_version_upload on authority_child_version (upload_id, id);
-- Uploads of an authority that do not count yet.
create index upload_state on upload (authority_id, state);

-- Every version of an organisation, the newest included.
create table organization_version (
    id bigint generated always as identity primary key,
    organization_id bigint not null references organization (id),
    version bigint not null,
    name text not null,
    kind text not null,
    care_setting text,
    sensitive boolean not null,
    office_phone text,
    duty_phone text,
    part_of text,
    active boolean not null,
    recorded_ms bigint not null,
    unique (organization_id, version)
);
create index organization_version_recorded on organization_version (recorded_ms, id);
insert into organization_version (organization_id, version, name, kind, care_setting, sensitive, office_phone, duty_phone, part_of, active, recorded_ms)
    select id, version, name, kind, care_setting, sensitive, office_phone, duty_phone, part_of, active, updated_ms
    from organization order by updated_ms, id;
