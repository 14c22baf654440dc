-- What else an authority is told of: numbers that become inactive, and records that the system ended (design 7).

-- Of an access the columns are null: its own row says all.
alter table outbox add column nhs_number text;
alter table outbox add column replaced_by text;
alter table outbox add column reason text;
alter table outbox add column plan_id bigint;
