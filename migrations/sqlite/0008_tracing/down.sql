drop index register_entry_replaced;
drop table trace_result;
drop table retrace_pace;
drop index person_unknown;
drop index person_retrace;
alter table person drop column unknown_ms;
alter table person drop column claimed_ms;
alter table person drop column retrace_ms;
alter table person drop column traced_ms;
