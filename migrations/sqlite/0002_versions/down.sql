drop table organization_version;
drop index upload_state;

alter table authority_child_version rename to authority_child_version_numbered;
create table authority_child_version (
    child_id bigint not null references authority_child (id),
    version bigint not null,
    upload_id bigint references upload (id),
    family text not null,
    given text not null,
    birth_date date not null,
    local_id text,
    recorded_ms bigint not null,
    primary key (child_id, version)
);
insert into authority_child_version select child_id, version, upload_id, family, given, birth_date, local_id, recorded_ms from authority_child_version_numbered;
drop table authority_child_version_numbered;

alter table plan_version rename to plan_version_numbered;
create table plan_version (
    plan_id bigint not null references plan (id),
    version bigint not null,
    upload_id bigint references upload (id),
    start_date date not null,
    end_date date,
    local_id text,
    deleted boolean not null,
    recorded_ms bigint not null,
    primary key (plan_id, version)
);
insert into plan_version select plan_id, version, upload_id, start_date, end_date, local_id, deleted, recorded_ms from plan_version_numbered;
drop table plan_version_numbered;
