-- Uploads that are staged: written in batches, counting once applied, answered from what is kept of each record (design 6).

-- The MESH message that brought a file; how many of its records are judged; and, as JSON, what its door needs to answer
-- it without the file.
alter table upload add column mesh_message text;
alter table upload add column judged bigint not null default 0;
alter table upload add column form text;
-- A number is used once it has a final answer.
drop index upload_authority;
create unique index upload_number on upload (authority_id, sequence_number) where applied_ms is not null;
create unique index upload_message on upload (authority_id, mesh_message) where applied_ms is not null;
create index upload_unapplied on upload (id) where applied_ms is null;

-- What a record was answered with, as JSON; what its door needs to repeat it; and the upload that loaded a refused one later.
alter table upload_record add column answer text;
alter table upload_record add column form text;
alter table upload_record add column resolved_ms bigint;
alter table upload_record add column resolved_by bigint;
create index upload_record_number on upload_record (nhs_number) where nhs_number is not null;
create index upload_record_resolved on upload_record (resolved_by) where resolved_by is not null;

-- When a change of an authority was last applied.
alter table organization add column confirmed_ms bigint;
