//! Integration tests: the real app over real HTTP, on SQLite and on PostgreSQL. One binary, because each links everything.

mod harness;

mod look_up;
mod audit;
mod concurrency;
mod history_model;
mod store_parity;
