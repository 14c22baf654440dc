//! `cpis-gateway`: child-protection information shared over FHIR R4, every access audited before its answer leaves.
//!
//! The flow, in one direction: HTTP -> FHIR -> CP-IS rules -> store -> outbox -> notifier (ARCHITECTURE.md).

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cpis;
pub mod demographics;
pub mod fhir;
pub mod hl7v3;
pub mod http;
pub mod mailbox;
pub mod notify;
pub mod outside;
pub mod store;
pub mod telemetry;
