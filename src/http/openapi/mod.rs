//! `GET /openapi.json`: every route of the table and what is served beside it, for people who explore and for tools;
//! shown at `/docs`. Parameters, statuses and headers follow from a row of the table; bodies from `schemas/`; examples are
//! what the gateway answered to `tests/it/api_examples.rs`.

mod document;
mod examples;
mod headers;
mod operation;
mod outside;
mod parameters;
mod responses;
mod schemas;
mod written;

pub use document::{Described, document};
