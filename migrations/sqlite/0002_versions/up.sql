-- Histories: versions are numbered in the order in which they are recorded, and those of organisations are kept too.

-- A version's `id` is given under the lock of its authority, whose column saves a history a walk past the others' rows.
alter table plan_version rename to plan_version_unnumbered;
create table plan_version (
    id integer primary key autoincrement,
    plan_id bigint not null references plan (id),
    version bigint not null,
    authority_id bigint not null references organization (id),
    upload_id bigint references upload (id),
    start_date date not null,
    end_date date,
    local_id text,
    deleted boolean not null,
    recorded_ms bigint not null,
    unique (plan_id, version)
);
insert into plan_version (plan_id, version, authority_id, upload_id, start_date, end_date, local_id, deleted, recorded_ms)
    select v.plan_id, v.version, c.authority_id, v.upload_id, v.start_date, v.end_date, v.local_id, v.deleted, v.recorded_ms
    from plan_version_unnumbered v join plan p on p.id = v.plan_id join authority_child c on c.id = p.child_id
    order by v.recorded_ms, v.upload_id, v.plan_id, v.version;
drop table plan_version_unnumbered;

alter table authority_child_version rename to authority_child_version_unnumbered;
create table authority_child_version (
    id integer primary key autoincrement,
    child_id bigint not null references authority_child (id),
    version bigint not null,
    authority_id bigint not null references organization (id),
    upload_id bigint references upload (id),
    family text not null,
    given text not null,
    birth_date date not null,
    local_id text,
    recorded_ms bigint not null,
    unique (child_id, version)
);
insert into authority_child_version (child_id, version, authority_id, upload_id, family, given, birth_date, local_id, recorded_ms)
    select v.child_id, v.version, c.authority_id, v.upload_id, v.family, v.given, v.birth_date, v.local_id, v.recorded_ms
    from authority_child_version_unnumbered v join authority_child c on c.id = v.child_id
    order by v.recorded_ms, v.upload_id, v.child_id, v.version;
drop table authority_child_version_unnumbered;

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
    id integer primary key autoincrement,
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
