-- MESH (design 6 and 7): which mailbox is whose, what came, and what is sent.

-- One mailbox for each authority. Notifications before from_ms are not for it.
create table mesh_mailbox (
    authority_id bigint not null primary key references organization (id),
    mailbox text not null unique,
    from_ms bigint not null
);

-- What came: taken (being handled), handled, or set-aside (it could not be handled; an operator looks).
create table mesh_received (
    message_id text not null primary key,
    state text not null,
    mailbox text not null,
    authority_id bigint references organization (id),
    outcome text,
    attempts bigint not null,
    received_ms bigint not null,
    next_attempt_ms bigint not null,
    handled_ms bigint
);
create index mesh_received_state on mesh_received (state);

-- What is sent. The uuid is MESH's local id and the id within the message, the same at every sending. The columns from
-- reply_to on are those of an acknowledgement: the message that it answers, and what it says; body is the answer to a
-- FHIR Bundle.
create table mesh_message (
    id integer primary key autoincrement,
    uuid text not null unique,
    kind text not null,
    authority_id bigint not null references organization (id),
    state text not null,
    attempts bigint not null,
    reopened bigint not null,
    next_attempt_ms bigint not null,
    created_ms bigint not null,
    sending_ms bigint,
    sent_ms bigint,
    mesh_id text,
    last_error text,
    reply_to text unique,
    upload text,
    file_code text,
    file_number bigint,
    records bigint,
    refused bigint,
    reason text,
    body blob
);
create index mesh_message_next on mesh_message (state, next_attempt_ms);
create index mesh_message_mesh on mesh_message (mesh_id);

-- The notifications that a message carries; each goes into one message.
create table mesh_message_notice (
    outbox_id bigint not null primary key references outbox (id),
    message_id bigint not null references mesh_message (id)
);
create index mesh_message_notice_message on mesh_message_notice (message_id);

-- When a notification was given to a MESH message.
alter table outbox add column mesh_ms bigint;
create index outbox_mesh on outbox (authority_id, kind, created_ms) where mesh_ms is null;

-- How the gateway's own mailbox stands with MESH.
create table mesh_contact (
    mailbox text not null primary key,
    handshake_ms bigint,
    ok_ms bigint,
    failed_ms bigint,
    error text
);
