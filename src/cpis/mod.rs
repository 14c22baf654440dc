//! The CP-IS rules and use cases: who may see which plan, what an access causes, what an upload means.
//! Knows no HTTP, no JSON and no SQL.

pub mod auditing;
pub mod calendar;
pub mod confirm;
pub mod distinct;
pub mod ends;
pub mod gateway;
pub mod later;
pub mod lifecycle;
pub mod limits;
pub mod listing;
pub mod look_up;
pub mod matching;
pub mod measured;
pub mod mesh;
mod news;
pub mod notifications;
pub mod numbers;
pub mod organizations;
pub mod own_record;
pub mod refusals;
pub mod register;
mod retired;
pub mod retrace;
pub mod silence;
pub mod subscriptions;
pub mod succession;
pub mod trace;
pub mod types;
pub mod upload;
pub mod verify;
pub mod versions;
pub mod visibility;

pub use gateway::{Error, Gateway};
