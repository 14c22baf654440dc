//! Integration tests: the real app over real HTTP, on SQLite and on PostgreSQL. One binary, because each links everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

mod api_examples;
mod api_pages;
mod audit;
mod callers;
mod concurrency;
mod conditional;
mod corpus;
mod definitions;
mod distinct_children;
mod documents;
mod flag_interactions;
mod history;
mod history_model;
mod hostile;
mod la;
mod layering;
mod lifecycle;
mod look_up;
mod mesh;
mod nhs_numbers;
mod notify;
mod numbers_model;
mod operator;
mod organizations;
mod patient_match;
mod pds;
mod preconditions;
mod refusals;
mod retired;
mod retired_log;
mod search;
mod store_parity;
mod subscriptions;
mod told;
mod tracing;
mod two_authorities;
mod upload;
mod validate;
