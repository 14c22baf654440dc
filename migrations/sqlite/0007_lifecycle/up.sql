-- What becomes of records after they were sent: numbers that change, ends by the system, silence (design 2, 7 and 9).

-- Of a deceased person the number stays current.
alter table register_entry add column deceased boolean not null default false;

-- `beneath`: the state that a restricted number has all the same. `register_seen`: what the register said when it was last
-- compared; what others (an administrator) say of a number stands until the register says something new.
alter table person add column beneath text;
alter table person add column deceased boolean not null default false;
alter table person add column register_seen text;

-- The next day on which a plan of the child may have to be ended, or its end taken back; long ago when something changed
-- since it was last looked at, null when no day will come.
alter table authority_child add column due_date date default '2000-01-01';
create index authority_child_due on authority_child (due_date, id) where due_date is not null;

-- A version by the system: why, and the end that it wrote; `end_date` stays what the authority sent.
alter table plan_version add column ended_by text;
alter table plan_version add column ended_on date;
-- Why the authority was last told that the system ended the plan; null when that was taken back.
alter table plan add column ended_told text;

-- Authorities that had sent something before that was kept.
update organization set confirmed_ms =
    (select max(u.applied_ms) from upload u where u.authority_id = organization.id and u.state = 'applied')
    where confirmed_ms is null;
-- When an alert was last raised that the authority is silent.
alter table organization add column silent_alert_ms bigint;

-- When the refused records of the upload were last shown to the authority again.
alter table upload add column reminded_ms bigint;
-- Refused records that no later upload has loaded.
create index upload_record_open on upload_record (upload_id, position) where resolved_ms is null and code <> 'CPR06';

-- Authorities whose records another has taken over, and those whose they had taken over before: what was listed for them was
-- listed for it.
create table succession (
    authority_id bigint not null references organization (id),
    predecessor_id bigint not null references organization (id),
    since_ms bigint not null,
    primary key (authority_id, predecessor_id)
);
