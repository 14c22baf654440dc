//! Integration tests: the real app over real HTTP, on SQLite and on PostgreSQL. One binary, because each links everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

mod audit;
mod concurrency;
mod history_model;
mod look_up;
mod notify;
mod store_parity;
