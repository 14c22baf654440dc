//! The national PDS as a source of demographics: what its answers mean here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{Demographics, Unavailable};
use crate::{
    cpis::types::{
        NhsNumber,
        child::{Trace, Traced, Urgency},
        health::Health,
    },
    outside::pds::{Answer, Observer, PdsClient, PdsFault, PdsState, Seen, Turn, Turned},
    telemetry::metrics::{self, Metrics, Sample},
};

/// The national PDS (`pds.mode = "fhir"`).
pub struct Pds(pub PdsClient);

/// Counts what the client does, and raises the alert when PDS is away.
pub fn observer(metrics: Metrics) -> Observer {
    Arc::new(move |seen| match seen {
        Seen::Asked { outcome, took } => {
            metrics.count(&metrics::PDS_REQUESTS, &[outcome]);
            metrics.observe(&metrics::PDS_SECONDS, &[], took);
        }
        Seen::Token { issued } => {
            metrics.count(&metrics::PDS_TOKENS, &[if issued { "issued" } else { "failed" }]);
        }
        Seen::Turned(Turned::Away) => {
            tracing::error!(alert = "pds-away", "PDS failed again and again, and is left alone for a while");
        }
        Seen::Turned(Turned::Back) => tracing::info!("PDS answers again"),
    })
}

impl Pds {
    async fn trace_one(client: PdsClient, number: NhsNumber, turn: Turn) -> Result<(NhsNumber, Trace), Unavailable> {
        let answer = client.patient(number.as_str(), turn).await.map_err(|fault| {
            let PdsFault { kind, request_id, .. } = &fault;
            let pds_request_id = request_id.map(|id| id.to_string()).unwrap_or_default();
            tracing::warn!(kind = kind.code(), pds_request_id, %fault, "a number could not be traced");
            Unavailable
        })?;
        Ok((number, traced(answer)?))
    }
}

/// What an answer means. PDS takes a number for none that passes modulus 11, and so can be nobody's.
///
/// # Errors
/// [`Unavailable`] when the number is replaced by what is no NHS number.
fn traced(answer: Answer) -> Result<Trace, Unavailable> {
    Ok(match answer {
        Answer::Found(person) => Trace::Found(Traced {
            family: person.family,
            given: person.given,
            birth_date: person.birth_date,
            deceased: person.deceased,
        }),
        Answer::Superseded(by) => Trace::Superseded(NhsNumber::parse(&by).map_err(|_| {
            tracing::warn!(kind = "unreadable", "PDS replaced a number by what is no NHS number");
            Unavailable
        })?),
        Answer::Invalidated => Trace::Invalid,
        Answer::Unknown | Answer::NotANumber => Trace::Unknown,
        Answer::Restricted => Trace::Restricted,
    })
}

impl Demographics for Pds {
    fn trace<'a>(
        &'a self,
        numbers: &'a [NhsNumber],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>> {
        let turn = match urgency {
            Urgency::Background => Turn::Background,
            Urgency::File => Turn::File,
            Urgency::Caller => Turn::Caller,
        };
        let once: BTreeSet<NhsNumber> = numbers.iter().copied().collect();
        let client = self.0.clone();
        Box::pin(async move {
            let at_once = client.concurrency();
            let asked = once.into_iter().map(move |number| Self::trace_one(client.clone(), number, turn));
            // The first failure ends the rest: the whole is unavailable.
            let known: HashMap<NhsNumber, Trace> = stream::iter(asked).buffer_unordered(at_once).try_collect().await?;
            numbers.iter().map(|number| known.get(number).cloned().ok_or(Unavailable)).collect()
        })
    }

    fn health(&self) -> Option<(Health, String)> {
        let PdsState { away, failures, last_answer, last_fault, .. } = self.0.state();
        let mut last = last_answer.map_or("It has not answered yet.".to_owned(), |at| {
            format!("It answered last at {}.", at.format("%Y-%m-%dT%H:%M:%SZ"))
        });
        if let Some(fault) = last_fault {
            last = format!("The last time: {fault}. {last}");
        }
        Some(match (away, failures) {
            (true, _) => (Health::Fail, format!("PDS failed again and again and is left alone for a while. {last}")),
            (false, 0) => (Health::Pass, last),
            (false, failures) => (Health::Warn, format!("The last {failures} requests failed. {last}")),
        })
    }

    fn measured(&self) -> Vec<Sample> {
        let PdsState { away, under_way, waiting, .. } = self.0.state();
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let mut samples = vec![
            Sample::new(&metrics::PDS_AWAY, &[], count(away.into())),
            Sample::new(&metrics::PDS_UNDER_WAY, &[], count(under_way)),
        ];
        let waiting = Turn::ALL.into_iter().zip(waiting);
        samples.extend(waiting.map(|(turn, many)| Sample::new(&metrics::PDS_WAITING, &[turn.code()], count(many))));
        samples
    }
}
