//! Integration tests: the real app over real HTTP, on SQLite and on PostgreSQL. One binary, because each links everything.

mod harness;

mod look_up;
