//! Integration tests: the real app over real HTTP, on SQLite and on PostgreSQL. One binary, because each links everything.

mod harness;

mod flag_interactions;
mod look_up;
mod two_authorities;
mod upload;
mod upload_page;
