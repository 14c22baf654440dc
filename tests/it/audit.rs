//! The security audit as evidence and as an auditor reads it: chains, checkpoints, what a verification finds, pages that
//! stay still while the audit grows.

mod chains;
mod search;
mod tampering;
