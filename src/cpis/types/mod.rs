//! The domain types. A value of these types is valid; parsing happens once, at the door.

pub mod access;
pub mod audit;
pub mod caller;
pub mod child;
pub mod nhs_number;
pub mod organization;
pub mod plan;
pub mod subscription;
pub mod upload;

pub use nhs_number::NhsNumber;
pub use organization::{OdsCode, Organization, Phone};
pub use plan::{LocalPlanId, Plan, PlanPeriod, PlanType, ShownPlan};
