//! Clients of other systems. They know nothing of CP-IS: bytes and settings in, an answer or a fault out.
//!
//! - [`hook::HookClient`] posts to a Subscription's rest-hook; [`hook::check_endpoint`] and [`hook::check_headers`] say
//!   beforehand what it would refuse.
//! - [`target::Targets`] says which addresses may be connected to.
//! - [`mesh::MeshClient`] is one mailbox of NHS England's message exchange.
//! - [`pds::PdsClient`] asks the national PDS whom an NHS number belongs to.

pub mod hook;
pub mod mesh;
pub mod pds;
pub mod target;
