//! What the tests share: a gateway on a store of its own, callers with tokens, children to put on record.

pub mod answer;
mod app;
mod call;
mod database;
mod fixtures;
pub mod mesh;
pub mod pds;
pub mod postgres;
mod raw;
pub mod statements;
mod store;
mod tables;
pub mod upload;

pub use app::{Backend, TestApp, noon, ods};
pub use call::{Reply, Request};
pub use fixtures::{CPP, Child, LAC, UCP, authority, bundle, child, number};

/// Makes of one async test, written for a [`Backend`], two: one for each store.
macro_rules! on_both_stores {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident) $body:block)*) => {
        $(
            $(#[$meta])*
            mod $name {
                #[allow(unused_imports)]
                use super::*;

                async fn test($backend: $crate::harness::Backend) $body

                #[actix_web::test]
                async fn sqlite() {
                    test($crate::harness::Backend::Sqlite).await;
                }

                #[actix_web::test]
                async fn postgres() {
                    test($crate::harness::Backend::Postgres).await;
                }
            }
        )*
    };
}
pub(crate) use on_both_stores;
