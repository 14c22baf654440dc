drop table mesh_contact;
drop index outbox_mesh;
alter table outbox drop column mesh_ms;
drop table mesh_message_notice;
drop table mesh_message;
drop table mesh_received;
drop table mesh_mailbox;
