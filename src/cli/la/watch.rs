//! `la watch`: what comes for the authority. By FHIR the events of its Subscriptions, or, where it has none that works, the
//! accesses of each of its children; by MESH the acknowledgements and notifications in its mailbox.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::{
    LaFault,
    config::{Connection, Settings},
    console::Console,
    mailbox::{Mailbox, Show},
    numbers::State,
    remote::{Remote, next, resources},
};

#[derive(Args)]
pub struct Watch {
    /// Look into the authority's MESH mailbox ([mesh] in the configuration file) instead of its Subscriptions.
    #[arg(long)]
    mesh: bool,
    /// Leave the messages in the mailbox.
    #[arg(long, requires = "mesh")]
    keep: bool,
    /// Show what is there and end, for a scheduler.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Show everything again, from the first event on.
    #[arg(long, conflicts_with = "mesh")]
    all: bool,
    /// Print each as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Watch {
    pub async fn run(self, console: &mut Console) -> Result<u8, LaFault> {
        let settings = self.connection.settings()?;
        let mut all = self.all;
        loop {
            match self.look_once(&settings, all, console).await {
                ended if self.once => return ended,
                Ok(_) => all = false,
                // Who watches goes on watching.
                Err(LaFault::TryAgain(text)) => console.say(&text),
                Err(fault) => return Err(fault),
            }
            tokio::time::sleep(Duration::from_secs(self.every)).await;
        }
    }

    /// The state's lock is not held, nor a token of the sandbox used, while nothing is done.
    async fn look_once(&self, settings: &Settings, all: bool, console: &mut Console) -> Result<u8, LaFault> {
        let mut state = State::open(&settings.state)?;
        if self.mesh {
            let show = Show { as_json: self.json, keep: self.keep };
            return Mailbox::open(settings.mesh.as_ref()).await?.show(&show, &mut state, console).await;
        }
        look(&Remote::open(settings).await?, &mut state, all, self.json, console).await?;
        Ok(0)
    }
}

async fn look(
    remote: &Remote,
    state: &mut State,
    all: bool,
    as_json: bool,
    console: &mut Console,
) -> Result<(), LaFault> {
    let subscriptions = remote.get("Subscription").await?.good()?;
    let active = resources(&subscriptions.body).filter(|one| text(one, "/status") == "active");
    let ids: Vec<String> = active.map(|one| text(one, "/id").to_owned()).collect();
    if ids.is_empty() {
        return look_at_children(remote, state, all, as_json, console).await;
    }
    for id in ids {
        let since = if all { 1 } else { state.shown(&id) + 1 };
        let mut place = Some(format!("Subscription/{id}/$events?eventsSinceNumber={since}&content=full-resource"));
        while let Some(page) = place {
            let reply = remote.get(&page).await?.good()?;
            for event in events(&reply.body) {
                // Shown before it counts as shown: rather twice than never.
                event.show(Some(&id), as_json, console)?;
                if let Some(number) = event.number {
                    state.show(&id, number)?;
                }
            }
            place = next(&reply.body).map(str::to_owned);
        }
    }
    Ok(())
}

/// Without a Subscription that works: the accesses that are listed for the authority, child by child.
async fn look_at_children(
    remote: &Remote,
    state: &mut State,
    all: bool,
    as_json: bool,
    console: &mut Console,
) -> Result<(), LaFault> {
    let mut numbers = Vec::new();
    let mut number = |patient: &Value| {
        numbers.push(text(patient, "/id").to_owned());
        Ok(())
    };
    remote.all(remote.get("Patient?_count=200").await?, &mut number).await?;
    let since = state.accesses_since().filter(|_| !all);
    let since = since.map(|at| format!("&date=ge{}", at.to_rfc3339_opts(SecondsFormat::Millis, true)));
    let bar = console.progress("Looking at children");
    let mut found = Vec::new();
    for number in numbers {
        let form = format!("patient={number}&_count=200{}", since.as_deref().unwrap_or_default());
        let mut keep = |one: &Value| {
            found.push(one.clone());
            Ok(())
        };
        remote.all(remote.search("AuditEvent", form).await?, &mut keep).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let of_type = |name: &'static str| found.iter().filter(move |one| text(one, "/resourceType") == name);
    let mut accesses: Vec<&Value> =
        of_type("AuditEvent").filter(|one| all || !state.was_shown(text(one, "/id"))).collect();
    accesses.sort_by_key(|one| text(one, "/recorded"));
    let mut shown = Vec::new();
    for access in accesses {
        let id = text(access, "/id");
        let event = Event {
            number: None,
            at: text(access, "/recorded"),
            topic: "cpis-access",
            reason: None,
            about: "",
            focus: Some(access),
            role: of_type("PractitionerRole").find(|role| text(role, "/id") == id),
        };
        event.show(None, as_json, console)?;
        shown.extend(event.at.parse().ok().map(|at: DateTime<Utc>| (id.to_owned(), at)));
    }
    state.show_accesses(shown)
}

/// Something that the authority is told.
struct Event<'a> {
    /// In its Subscription.
    number: Option<i64>,
    at: &'a str,
    /// Last part of the topic's canonical.
    topic: &'a str,
    /// Why, in words, for what isn't an access.
    reason: Option<&'a str>,
    /// What the event is about, such as `Patient/{nhs}`.
    about: &'a str,
    focus: Option<&'a Value>,
    role: Option<&'a Value>,
}

fn events(bundle: &Value) -> Vec<Event<'_>> {
    let Some(status) = resources(bundle).find(|one| one.get("resourceType").is_some_and(|of| of == "Parameters"))
    else {
        return Vec::new();
    };
    let topic = parts(status, "parameter", "topic").next().and_then(|topic| topic.get("valueCanonical")?.as_str());
    let topic = topic.and_then(|topic| topic.rsplit('/').next()).unwrap_or_default();
    let resource = |reference: &Value| {
        let reference = reference.pointer("/valueReference/reference").and_then(Value::as_str)?;
        resources(bundle).find(|one| {
            let named = format!("/{}/{}", text(one, "/resourceType"), text(one, "/id"));
            format!("/{reference}").ends_with(&named)
        })
    };
    let mut events: Vec<Event<'_>> = parts(status, "parameter", "notification-event")
        .filter_map(|event| {
            let number = parts(event, "part", "event-number").next()?.get("valueString")?.as_str()?.parse().ok()?;
            let at = parts(event, "part", "timestamp").next().and_then(|at| at.get("valueInstant")?.as_str());
            let focus = parts(event, "part", "focus").next();
            let about = focus.map(|focus| text(focus, "/valueReference/reference")).unwrap_or_default();
            let reason = event.pointer("/extension/0/valueCodeableConcept/coding/0/display").and_then(Value::as_str);
            let mut context = parts(event, "part", "additional-context").filter_map(resource);
            let role = context.find(|one| one.get("resourceType").is_some_and(|of| of == "PractitionerRole"));
            let focus = focus.and_then(resource);
            Some(Event { number: Some(number), at: at.unwrap_or_default(), topic, reason, about, focus, role })
        })
        .collect();
    events.sort_by_key(|event| event.number);
    events
}

fn parts<'a>(value: &'a Value, list: &str, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let parts = value.get(list).and_then(Value::as_array).into_iter().flatten();
    parts.filter(move |part| part.get("name").is_some_and(|own| own == name))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Event<'_> {
    /// NHS number that the event is about.
    fn nhs_number(&self) -> Option<&str> {
        if let Some((_, number)) = self.about.rsplit_once("Patient/") {
            return Some(number);
        }
        let focus = self.focus?;
        let entities = focus.get("entity").and_then(Value::as_array).into_iter().flatten();
        let mut numbers = entities.map(|entity| text(entity, "/what/identifier/value")).filter(|text| !text.is_empty());
        numbers.next().or_else(|| focus.pointer("/subject/identifier/value").and_then(Value::as_str))
    }

    /// NHS number that replaces an inactive one.
    fn replaced_by(&self) -> Option<&str> {
        self.focus?.pointer("/link/0/other/identifier/value").and_then(Value::as_str)
    }

    fn viewer(&self) -> [(&'static str, Option<&str>); 3] {
        let of = |pointer: &str| self.role.map(|role| text(role, pointer)).filter(|text| !text.is_empty());
        [
            ("viewer", of("/practitioner/display")),
            ("role", of("/code/0/coding/0/display").or_else(|| of("/code/0/text"))),
            ("organisation", of("/organization/display")),
        ]
    }

    fn show(&self, subscription: Option<&str>, as_json: bool, console: &mut Console) -> std::io::Result<()> {
        if as_json { console.print_json(&self.line(subscription)) } else { console.print(&self.words()) }
    }

    fn line(&self, subscription: Option<&str>) -> Value {
        let mut line = json!({
            "kind": self.topic, "subscription": subscription, "number": self.number, "at": self.at,
            "nhs_number": self.nhs_number(), "reason": self.reason, "replaced_by": self.replaced_by(),
        });
        for (name, value) in self.viewer() {
            line[name] = value.into();
        }
        line
    }

    fn words(&self) -> String {
        let viewer = self.viewer();
        let replaced = self.replaced_by().map(|number| format!("replaced by {number}"));
        let said = viewer.iter().filter_map(|(_, value)| *value).chain(self.reason).chain(replaced.as_deref());
        let said: Vec<&str> = said.collect();
        let number = self.nhs_number().unwrap_or("-");
        format!("{}  {}  {number}  {}\n", self.at, self.topic, said.join(", "))
    }
}
