//! Who an NHS number belongs to (`pds.mode`): by the local register, by the national PDS, or asked of nobody.

mod pds;

use futures_util::future::BoxFuture;

use crate::{
    cpis::types::{
        NhsNumber,
        child::{Trace, Urgency},
        health::Health,
    },
    store::{Store, register},
    telemetry::metrics::Sample,
};

pub use pds::{Pds, observer as pds_observer};

/// Demographics could not be asked; the whole file is to be sent again (CPF05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("demographics are not available")]
pub struct Unavailable;

/// Who is asked; what follows from it is in `cpis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Asking costs nothing, and what it says of stored numbers can be compared at any time.
    Register,
    /// The national service: each question costs, and it may not be there.
    Pds,
    /// Nobody.
    Off,
}

/// A source of demographics.
pub trait Demographics: Send + Sync {
    /// What is known of each number, in the order of `numbers`.
    fn trace<'a>(
        &'a self,
        numbers: &'a [NhsNumber],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>>;

    /// Which it is.
    fn source(&self) -> Source {
        Source::Pds
    }

    /// How it is, and what was found, if it can be away by itself.
    fn health(&self) -> Option<(Health, String)> {
        None
    }

    /// Its gauges at this moment.
    fn measured(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// The local register of demographics.
pub struct Register(pub Store);

impl Demographics for Register {
    fn source(&self) -> Source {
        Source::Register
    }

    fn trace<'a>(&'a self, numbers: &'a [NhsNumber], _: Urgency) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>> {
        let numbers = numbers.to_vec();
        Box::pin(async move {
            let traces = self.0.read(move |conn| numbers.iter().map(|number| register::trace(conn, number)).collect());
            traces.await.map_err(|error| {
                tracing::warn!(%error, "the register could not be asked");
                Unavailable
            })
        })
    }
}

/// Nobody is asked: modulus 11 only, the birth date as sent.
pub struct Off;

impl Demographics for Off {
    fn source(&self) -> Source {
        Source::Off
    }

    fn trace<'a>(&'a self, numbers: &'a [NhsNumber], _: Urgency) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>> {
        Box::pin(async move { Ok(vec![Trace::NotTraced; numbers.len()]) })
    }
}
