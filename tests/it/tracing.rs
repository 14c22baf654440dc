//! Tracing with the national PDS: what it says anew of stored numbers is taken, whoever asked; answers kept for a file that
//! is sent again; stored numbers traced again, evenly, by several processes (design 6 and 9).

mod age;
mod news;
mod pace;
mod register;
mod rounds;
mod staged;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::TimeDelta;
use cpis_gateway::{
    cpis::{
        Gateway,
        retrace::Retraced,
        types::{
            NhsNumber,
            child::{Trace, Traced, Urgency},
        },
    },
    demographics::{Demographics, Unavailable},
};
use futures_util::future::BoxFuture;

use crate::harness::{Child, TestApp, pds::PdsStandIn};

/// A PDS without HTTP, for what is counted: what it says, what it was asked, and when it fails.
#[derive(Default)]
struct Counted(Mutex<State>);

#[derive(Default)]
struct State {
    says: HashMap<NhsNumber, Trace>,
    asked: Vec<NhsNumber>,
    /// Numbers about which it always fails.
    stumbles: HashSet<NhsNumber>,
    /// So many more answers, then it is away.
    left: Option<usize>,
}

impl Counted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn says(&self, number: &NhsNumber, trace: Trace) {
        self.state().says.insert(*number, trace);
    }

    fn knows(&self, child: &Child) {
        self.says(&child.number, found(child));
    }

    fn leaves_after(&self, answers: usize) {
        self.state().left = Some(answers);
    }

    fn is_back(&self) {
        self.state().left = None;
    }

    /// Every number that it was asked about since the last time.
    fn asked(&self) -> Vec<NhsNumber> {
        std::mem::take(&mut self.state().asked)
    }

    /// The same gateway over this PDS.
    fn gateway(self: &Arc<Self>, app: &TestApp) -> Gateway {
        Gateway { demographics: self.clone(), ..app.app.gateway.clone() }
    }
}

impl Demographics for Counted {
    fn trace<'a>(&'a self, numbers: &'a [NhsNumber], _: Urgency) -> BoxFuture<'a, Result<Vec<Trace>, Unavailable>> {
        Box::pin(async move {
            let mut state = self.state();
            if numbers.iter().any(|number| state.stumbles.contains(number)) {
                return Err(Unavailable);
            }
            if let Some(left) = state.left {
                state.left = Some(left.checked_sub(numbers.len()).ok_or(Unavailable)?);
            }
            state.asked.extend(numbers);
            Ok(numbers.iter().map(|number| state.says.get(number).cloned().unwrap_or(Trace::Unknown)).collect())
        })
    }
}

fn found(child: &Child) -> Trace {
    let demographics = child.demographics();
    Trace::Found(Traced {
        family: Some(demographics.family),
        given: demographics.given,
        birth_date: Some(demographics.birth_date),
        deceased: false,
    })
}

/// A child that PDS knows, with plans.
async fn on_record(app: &TestApp, pds: &PdsStandIn, child: &Child, plans: &[(&str, &str, &str, Option<&str>)]) {
    pds.knows(child);
    app.on_record_again(child, plans).await;
}

/// Rounds over a whole period of seven days: each number is traced again.
async fn a_week(app: &TestApp) -> Retraced {
    let mut done = Retraced::default();
    for _ in 0..28 {
        app.clock.advance(TimeDelta::hours(6));
        done.add(app.app.gateway.retrace().await.expect("a round"));
    }
    done
}

/// What clinicians see under a number.
async fn seen(app: &TestApp, child: &Child) -> i64 {
    app.clinician().get(&child.care_team()).await.total()
}

/// An administrator says it by `$inactive`.
async fn administrator_says(app: &TestApp, child: &Child, reason: &str) {
    let body = serde_json::json!({"resourceType": "Parameters",
        "parameter": [{"name": "reason", "valueCode": reason}]});
    let reply = app.administrator().post(&format!("/Patient/{}/$inactive", child.nhs()), &body).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
}

/// What the system audited of a number, oldest first, such as "pds restricted".
async fn audited(app: &TestApp, child: &Child) -> Vec<String> {
    let events = app.audit_of(child.nhs()).await;
    let said = events.iter().rev().filter_map(|event| {
        let entities = event["entity"].as_array()?;
        let what = entities.iter().find(|entity| entity["description"] == "What the system did")?;
        let (by, change) = (event["agent"][0]["name"].as_str()?, what["detail"][0]["valueString"].as_str()?);
        Some(format!("{by} {change}"))
    });
    said.collect()
}
