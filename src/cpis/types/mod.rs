//! The domain types. A value of these types is valid; parsing happens once, at the door.

/// `Debug` that shows nothing: the type holds what must never reach a log.
macro_rules! masked_debug {
    ($($name:ident),*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

pub mod access;
pub mod audit;
pub mod caller;
pub mod child;
pub mod health;
pub mod history;
pub mod mesh;
pub mod nhs_number;
pub mod notice;
pub mod organization;
pub mod page;
pub mod plan;
pub mod precondition;
pub mod refusal;
pub mod subscription;
pub mod succession;
pub mod upload;

pub use nhs_number::NhsNumber;
pub use organization::{OdsCode, Organization, Phone};
pub use plan::{LocalPlanId, Plan, PlanPeriod, PlanType, ShownPlan};
pub use precondition::Precondition;
