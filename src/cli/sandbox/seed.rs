//! Fills an empty database with the sandbox's past by the real use cases, so that history, listing, outbox and audit are
//! what they would be had it all happened.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    dice::Dice,
    population::{GO_LIVE, Population, before},
    timeline::{By, Event, What, timeline},
};
use crate::{
    clock::Clock,
    cpis::{
        Gateway,
        calendar::Calendar,
        later::Later,
        limits::Limits,
        look_up::{LookUp, Subject},
        types::{
            NhsNumber, OdsCode, Organization,
            access::AccessKind,
            audit::Interaction,
            caller::{Author, Caller, Client, RequestContext, Role},
            child::NumberStatus,
            upload::Door,
            upload::{FileCode, RecordChange},
        },
        upload::{
            apply::{Upload, UploadHead},
            turn::Uploads,
        },
    },
    demographics::Register,
    http::sandbox::cast::{DEVICE, MEMBERS, Member},
    store::{
        Location, Options, Store, StoreError, Tx,
        audit::month_of,
        organization::{self, NewOrganization},
        register,
    },
    telemetry::metrics::Metrics,
};

/// The disabled client that marks a database as a sandbox's. Its name is the seed's id.
pub const SEED_CLIENT: &str = "sandbox-seed";

/// Where the past is played.
struct Stage {
    gateway: Gateway,
    organizations: HashMap<OdsCode, Organization>,
    dice: Dice,
    base_path: String,
}

/// Migrates the database at `location` and fills it; `seed` marks it from the first transaction on.
///
/// # Errors
/// When the database fails, or refuses something.
pub async fn fill(
    location: &Location,
    everybody: &Population,
    calendar: Calendar,
    base_path: &str,
    seed: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let today = calendar.day_of(now);
    let events = timeline(everybody, today, &calendar);
    let began = calendar.day_bounds(before(today, GO_LIVE)).0;
    // On PostgreSQL each run makes the audit's partitions for two years from its month.
    for from in [began, calendar.day_bounds(before(today, GO_LIVE / 2)).0, now] {
        location.migrate(month_of(from))?;
    }
    let clock = Clock::standing_at(began);
    let store = Store::open(Options {
        location: location.clone(),
        readers: 1,
        process: "sandbox-seed".to_owned(),
        clock: clock.clone(),
    })?;
    let played = play(&store, clock, everybody, &events, calendar, base_path, seed).await;
    store.close(None);
    played
}

async fn play(
    store: &Store,
    clock: Clock,
    everybody: &Population,
    events: &[Event],
    calendar: Calendar,
    base_path: &str,
    seed: &str,
) -> anyhow::Result<()> {
    let organizations =
        found(store, everybody, seed, clock.now()).await.context("the organisations can't be stored")?;
    let gateway = Gateway {
        store: store.clone(),
        clock,
        calendar,
        limits: Limits::default(),
        demographics: Arc::new(Register(store.clone())),
        disclose_demographics: false,
        uploads: Uploads::default(),
        metrics: Metrics::default(),
        later: Later::default(),
    };
    let mut stage = Stage { gateway, organizations, dice: Dice::new(0x5EED), base_path: base_path.to_owned() };
    let bar = progress(events.len());
    for event in events {
        stage.gateway.clock.set(event.at);
        match &event.what {
            What::Upload { authority, records } => stage.upload(authority, records).await?,
            What::LookUp { number, by } => stage.look_up(*number, *by).await?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    // They sent their newest files in time: a sandbox begins with nobody silent.
    let now_ms = Clock::system().now().timestamp_millis();
    let heard = store.write(Vec::new(), move |tx| crate::store::organization::hear_from_all(tx.conn, now_ms));
    Ok(heard.await?)
}

/// On a terminal only.
fn progress(events: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(events).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("Making two years of synthetic data {bar:40} {percent:>3} %") {
        bar.set_style(style);
    }
    bar
}

/// Organisations, clients, the register and the mark, in the first transaction of all.
async fn found(
    store: &Store,
    everybody: &Population,
    seed: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<HashMap<OdsCode, Organization>> {
    let mut new = Vec::new();
    let mut clients = Vec::new();
    for member in MEMBERS {
        let (office_phone, duty_phone) = member.parsed_phones()?;
        let part_of = member.part_of.map(OdsCode::parse).transpose()?;
        clients.push(member.client()?);
        new.push(NewOrganization {
            ods: member.ods_code()?,
            name: member.name.to_owned(),
            kind: member.kind(),
            care_setting: member.care_setting,
            sensitive: member.sensitive,
            office_phone,
            duty_phone,
            part_of,
        });
    }
    clients.push(DEVICE.client()?);
    let operations = MEMBERS.iter().find(|member| member.role == Role::Administrator).context("nobody operates")?;
    clients.push(Client {
        client_id: SEED_CLIENT.to_owned(),
        name: seed.to_owned(),
        disabled: true,
        ..operations.client()?
    });
    let people: Vec<_> = everybody.register().map(|person| (person.number, person.demographics.clone())).collect();
    let stored = store.write(Vec::new(), move |tx: &mut Tx<'_>| {
        let mut stored = HashMap::new();
        for organization in &new {
            let id = organization::create(tx.conn, organization, now.timestamp_millis())?;
            stored.insert(organization.ods.clone(), organization::get(tx.conn, id)?);
        }
        clients.iter().try_for_each(|client| organization::create_client(tx.conn, client))?;
        for (number, demographics) in &people {
            register::add(tx.conn, number, demographics, NumberStatus::Current, None)?;
        }
        Ok::<_, StoreError>(stored)
    });
    Ok(stored.await?)
}

impl Stage {
    async fn upload(&mut self, authority: &Member, records: &[RecordChange]) -> anyhow::Result<()> {
        let caller = self.caller(&authority.client()?, &authority.ods_code()?, Author::System)?;
        let context = self.context(format!("POST {}", self.base_path));
        let applied = self.gateway.upload(Upload {
            head: UploadHead::new(caller, context, Interaction::Batch, Door::Bundle),
            records: records.iter().cloned().map(Into::into).collect(),
        });
        let applied = applied.await.context("an upload failed")?;
        if applied.code != FileCode::Cpf02 {
            let reasons = applied.records.iter().filter_map(|record| record.as_ref().err()).flatten();
            let reasons: Vec<&str> = reasons.map(|problem| problem.reason.as_str()).collect();
            bail!("an upload was answered {}: {}", applied.code.code(), reasons.join(" "));
        }
        Ok(())
    }

    async fn look_up(&mut self, number: NhsNumber, by: By) -> anyhow::Result<()> {
        let caller = match by {
            By::User(actor) => {
                let member = Member::find(actor.organization).context("a user without an organisation")?;
                let caller = self.caller(&member.client()?, &member.ods_code()?, Author::Person(actor.user()))?;
                Caller { activities: member.activities(), ..caller }
            }
            By::Device => {
                let (client, site) = (DEVICE.client()?, OdsCode::parse(DEVICE.site)?);
                let author = Author::Device { responsible: DEVICE.person(), site: Some(site) };
                self.caller(&client, &client.organization, author)?
            }
        };
        let line = format!(
            "GET {}/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{}",
            self.base_path,
            number.as_str()
        );
        let ask = LookUp {
            subject: Subject::Number(number),
            kind: AccessKind::Unscheduled,
            interaction: Interaction::SearchType,
            entity: None,
            absent_is_not_found: false,
            caller,
            context: self.context(line),
        };
        self.gateway.look_up(ask).await.context("a look-up failed")?;
        Ok(())
    }

    fn caller(&mut self, client: &Client, ods: &OdsCode, author: Author) -> anyhow::Result<Caller> {
        let organization = self.organizations.get(ods).context("a caller without an organisation")?;
        Ok(Caller {
            client_id: client.client_id.clone(),
            client_name: client.name.clone(),
            role: client.role,
            organization: organization.clone(),
            author,
            activities: client.activities.clone(),
            // There was no token: what stands in the place of its last 32 characters.
            token_tail: self.dice.uuid().simple().to_string(),
        })
    }

    fn context(&mut self, request_line: String) -> RequestContext {
        RequestContext {
            request_id: self.dice.uuid().to_string(),
            at: self.gateway.clock.now(),
            address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            request_line,
        }
    }
}
