alter table outbox drop column plan_id;
alter table outbox drop column reason;
alter table outbox drop column replaced_by;
alter table outbox drop column nhs_number;
