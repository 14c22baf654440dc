-- The first schema of the gateway, SQLite. Instants are milliseconds since 1970 UTC, dates are civil dates of Europe/London.

-- Organisations: local authorities and care providers by ODS code.
create table organization (
    id integer primary key autoincrement,
    ods text not null unique,
    name text not null,
    name_search text not null,
    kind text not null,
    care_setting text,
    sensitive boolean not null,
    office_phone text,
    duty_phone text,
    part_of text,
    active boolean not null,
    succeeded_by text,
    version bigint not null,
    updated_ms bigint not null
);

-- Registered clients (design 10).
create table client (
    client_id text not null primary key,
    name text not null,
    role text not null,
    organization_ods text not null references organization (ods),
    unattended boolean not null,
    activities text not null,
    disabled boolean not null
);

-- The local register of demographics (pds.mode = "register").
create table register_entry (
    nhs_number text not null primary key,
    family text not null,
    given text not null,
    birth_date date not null,
    status text not null,
    replaced_by text
);

-- One row a known NHS number; nothing else links authorities to each other (design 2).
create table person (
    id integer primary key autoincrement,
    nhs_number text not null unique,
    status text not null,
    traced_birth_date date
);

-- A superseded number's person and the one that replaces it.
create table alias (
    old_person_id bigint not null primary key references person (id),
    replacing_person_id bigint not null references person (id),
    since_ms bigint not null
);
create index alias_replacing on alias (replacing_person_id);

-- A change by an authority; its versions count only when it is applied (design 6).
create table upload (
    id integer primary key autoincrement,
    uuid text not null unique,
    authority_id bigint not null references organization (id),
    door text not null,
    sequence_number bigint,
    content_hash blob,
    state text not null,
    received_ms bigint not null,
    applied_ms bigint,
    records bigint not null,
    file_code text,
    answer blob
);
create index upload_authority on upload (authority_id, sequence_number);

create table upload_record (
    upload_id bigint not null references upload (id),
    position bigint not null,
    code text not null,
    nhs_number text,
    reason text,
    recorded_ms bigint not null,
    primary key (upload_id, position)
);

-- An authority's own child, and every version of what it sent.
create table authority_child (
    id integer primary key autoincrement,
    authority_id bigint not null references organization (id),
    person_id bigint not null references person (id),
    unique (person_id, authority_id)
);
create index authority_child_authority on authority_child (authority_id, id);

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

-- A plan, and every version of it.
create table plan (
    id integer primary key autoincrement,
    uuid text not null unique,
    child_id bigint not null references authority_child (id),
    plan_type text not null,
    created_ms bigint not null
);
create index plan_child on plan (child_id, id);

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

-- Access history: a row an unscheduled access that is listed for at least one authority (design 5). Insert only.
create table access (
    id integer primary key autoincrement,
    uuid text not null unique,
    person_id bigint not null,
    nhs_number text not null,
    author_key text not null,
    author text not null,
    at_ms bigint not null,
    request_id text not null
);
create index access_person on access (person_id, id);
create index access_person_author on access (person_id, author_key, id);

-- For which authority an access is listed. Insert only.
create table access_listing (
    access_id bigint not null,
    authority_id bigint not null,
    person_id bigint not null,
    author_key text not null,
    at_ms bigint not null,
    primary key (access_id, authority_id)
);
create index access_listing_rule on access_listing (person_id, authority_id, author_key, at_ms);
create index access_listing_authority on access_listing (authority_id, person_id, access_id);

-- What an authority is to be told; written in the transaction that caused it.
create table outbox (
    id integer primary key autoincrement,
    uuid text not null unique,
    kind text not null,
    authority_id bigint not null references organization (id),
    access_id bigint,
    created_ms bigint not null,
    routed_ms bigint
);
create index outbox_unrouted on outbox (authority_id, created_ms) where routed_ms is null;
create index outbox_authority on outbox (authority_id, id);
create index outbox_access on outbox (access_id);

-- A rest-hook. `from_ms` is set by its first handshake: the outbox rows of its authority from that instant on are its.
-- Until `caught_up` it is given the rows that were there before it.
create table subscription (
    id integer primary key autoincrement,
    uuid text not null unique,
    authority_id bigint not null references organization (id),
    status text not null,
    error text,
    endpoint text not null,
    headers text not null,
    topic text not null,
    reason text not null,
    end_ms bigint,
    version bigint not null,
    created_ms bigint not null,
    updated_ms bigint not null,
    from_ms bigint,
    caught_up boolean not null,
    events bigint not null,
    attempts bigint not null,
    next_attempt_ms bigint not null,
    deleted boolean not null
);
create index subscription_authority on subscription (authority_id, id);

-- One event of one subscription; the number is gap-free within it.
create table delivery (
    id integer primary key autoincrement,
    subscription_id bigint not null references subscription (id),
    event_number bigint not null,
    outbox_id bigint not null references outbox (id),
    state text not null,
    attempts bigint not null,
    next_attempt_ms bigint not null,
    delivered_ms bigint,
    last_error text,
    unique (subscription_id, event_number),
    unique (subscription_id, outbox_id)
);
create index delivery_next on delivery (subscription_id, state, event_number);

-- Background work of several processes: one holder at a time.
create table lease (
    name text not null primary key,
    holder text not null,
    until_ms bigint not null,
    fencing bigint not null
);

-- The security audit's chains, one a process (design 5).
create table audit_chain (
    id integer primary key autoincrement,
    process text not null,
    opened_ms bigint not null,
    lease_until_ms bigint not null,
    head_seq bigint not null,
    head_link blob not null,
    closed boolean not null
);
create index audit_chain_open on audit_chain (id) where not closed;

-- The security audit. Append only; nothing has a foreign key into it.
create table audit_event (
    id integer primary key autoincrement,
    month integer not null,
    chain bigint not null,
    seq bigint not null,
    format_version bigint not null,
    recorded_ms bigint not null,
    content blob not null,
    content_hash blob not null,
    link blob not null,
    patient text,
    agent text,
    agent_name text,
    agent_role text,
    organization text,
    site text,
    action text,
    outcome text,
    event_type text not null,
    subtype text not null,
    request_id text,
    entity text
);
create unique index audit_event_chain on audit_event (chain, seq, month);
create index audit_event_patient on audit_event (patient, id);
create index audit_event_recorded on audit_event (recorded_ms);

-- Signed heads of all chains; each names the hash of the one before. Insert only.
create table audit_checkpoint (
    number bigint not null primary key,
    at_ms bigint not null,
    content blob not null,
    hash blob not null,
    signature blob not null,
    key_id text not null
);

-- Against mistakes; against tampering there are the checkpoints.
create trigger audit_event_no_update before update on audit_event begin
    select raise(abort, 'audit_event is append only');
end;
create trigger audit_event_no_delete before delete on audit_event begin
    select raise(abort, 'audit_event is append only');
end;
create trigger audit_checkpoint_no_update before update on audit_checkpoint begin
    select raise(abort, 'audit_checkpoint is append only');
end;
create trigger audit_checkpoint_no_delete before delete on audit_checkpoint begin
    select raise(abort, 'audit_checkpoint is append only');
end;
create trigger access_no_update before update on access begin
    select raise(abort, 'access is append only');
end;
create trigger access_no_delete before delete on access begin
    select raise(abort, 'access is append only');
end;
create trigger access_listing_no_update before update on access_listing begin
    select raise(abort, 'access_listing is append only');
end;
create trigger access_listing_no_delete before delete on access_listing begin
    select raise(abort, 'access_listing is append only');
end;
