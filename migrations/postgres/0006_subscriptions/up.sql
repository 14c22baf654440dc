-- Subscriptions by topic, with what the R5 backport lets a client ask of its channel (design 7).

-- `topic` stays the URL as asked for; `topic_code` is the outbox kind that it means.
alter table subscription add column topic_code text not null default 'access';
alter table subscription add column content text not null default 'full-resource';
alter table subscription add column payload text not null default 'application/fhir+json';
alter table subscription add column heartbeat_seconds bigint;
alter table subscription add column timeout_seconds bigint;
alter table subscription add column max_count bigint;
-- When a heartbeat is due if nothing else is sent until then.
alter table subscription add column heartbeat_at_ms bigint;

-- Rows that nobody asked for stay unrouted: the topic keeps a look past them short.
drop index outbox_unrouted;
create index outbox_unrouted on outbox (authority_id, kind, created_ms) where routed_ms is null;
-- What an authority was told of a number.
create index outbox_number on outbox (authority_id, nhs_number, id) where nhs_number is not null;
-- What is not delivered: operators and metrics look at nothing else, so that it costs nothing that much was delivered.
create index delivery_open on delivery (state, outbox_id) where delivered_ms is null;
