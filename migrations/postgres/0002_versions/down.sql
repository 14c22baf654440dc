drop table organization_version;
drop index upload_state;
drop index authority_child_version_upload;
alter table authority_child_version drop constraint authority_child_version_child_id_version_key, drop column id, drop column authority_id;
alter table authority_child_version add primary key (child_id, version);
drop index plan_version_upload;
alter table plan_version drop constraint plan_version_plan_id_version_key, drop column id, drop column authority_id;
alter table plan_version add primary key (plan_id, version);
