//! The listing rule and the history against a naive model, under random sequences of looks, uploads, merges and hours.
//!
//! The model is written from design 2, 5 and 9 word for word and shares no code with the gateway: it keeps everything
//! in lists and judges by going through all of them.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Europe::London;
use cpis_gateway::{
    cpis::{
        types::{
            LocalPlanId, NhsNumber, PlanType, Precondition,
            access::{AccessKind, Found},
            audit::Interaction,
            caller::{Author, Caller, ResponsiblePerson, Role},
            child::NumberStatus,
            upload::{ChildChange, Door, PlanAction, PlanChange, PlanKey, RecordChange},
        },
        upload::{
            answer::LoadedRef,
            apply::{Upload, UploadHead},
        },
    },
    store,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use crate::harness::{Backend, Child, TestApp, number, ods};

const AUTHORITIES: [&str; 3] = ["Z9A", "Z9B", "Z9C"];
const NUMBERS: usize = 3;
/// The second becomes 18 in the middle of 2027.
const BIRTH_DATES: [&str; NUMBERS] = ["2017-05-11", "2009-07-01", "2017-05-11"];
const AUTHORS: usize = 5;
const CASES: u32 = 20;

#[derive(Clone, Debug)]
enum Step {
    Wait(TimeDelta),
    Look {
        author: usize,
        number: usize,
        kind: AccessKind,
    },
    /// Many look one after the other, so that old rows fall out of the 25.
    Crowd {
        number: usize,
        size: u8,
    },
    /// Start and end in days before today; an end in the future is negative.
    Put {
        authority: usize,
        number: usize,
        plan_type: PlanType,
        start: u64,
        end: Option<i64>,
    },
    Delete {
        authority: usize,
        number: usize,
        plan_type: PlanType,
    },
    Supersede {
        old: usize,
        replacing: usize,
    },
    Status {
        number: usize,
        status: NumberStatus,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Seldom enough that an author looks twice between two of them, and often to the edge of the 24 hours.
    let waits = prop_oneof![
        1 => Just(TimeDelta::milliseconds(1)),
        4 => Just(TimeDelta::hours(24)),
        3 => Just(TimeDelta::hours(24) - TimeDelta::milliseconds(1)),
        1 => Just(-TimeDelta::hours(30)),
        4 => (1_i64..1_000).prop_map(TimeDelta::minutes),
        1 => (1_i64..120).prop_map(TimeDelta::days),
    ];
    let asked = || prop_oneof![2 => Just(0), 1 => 1..NUMBERS];
    let plan_type = prop::sample::select(PlanType::ALL.to_vec());
    let kind = prop_oneof![9 => Just(AccessKind::Unscheduled), 1 => Just(AccessKind::Silent)];
    let status = prop::sample::select(vec![
        NumberStatus::Current,
        NumberStatus::Current,
        NumberStatus::Invalid,
        NumberStatus::Restricted,
        NumberStatus::Retired,
    ]);
    let end = prop_oneof![2 => Just(None), 2 => (-40_i64..0).prop_map(Some), 3 => (0_i64..360).prop_map(Some)];
    let step = prop_oneof![
        6 => waits.prop_map(Step::Wait),
        26 => (0..AUTHORS, asked(), kind)
            .prop_map(|(author, number, kind)| Step::Look { author, number, kind }),
        2 => (asked(), 20_u8..32).prop_map(|(number, size)| Step::Crowd { number, size }),
        6 => (0_usize..3, 0..NUMBERS, plan_type.clone(), 0_u64..420, end)
            .prop_map(|(authority, number, plan_type, start, end)| Step::Put { authority, number, plan_type, start, end }),
        1 => (0_usize..3, 0..NUMBERS, plan_type)
            .prop_map(|(authority, number, plan_type)| Step::Delete { authority, number, plan_type }),
        1 => (0..NUMBERS, 0..NUMBERS).prop_map(|(old, replacing)| Step::Supersede { old, replacing }),
        1 => (0..NUMBERS, status).prop_map(|(number, status)| Step::Status { number, status }),
    ];
    let held =
        |authority, number| Step::Put { authority, number, plan_type: PlanType::LookedAfter, start: 30, end: None };
    let first = [held(0, 0), held(1, 1)];
    prop::collection::vec(step, 40).prop_map(move |steps| first.iter().cloned().chain(steps).collect())
}

/// A plan as its authority last sent it.
#[derive(Debug)]
struct ModelPlan {
    id: Uuid,
    authority: usize,
    number: usize,
    plan_type: PlanType,
    start: NaiveDate,
    end: Option<NaiveDate>,
    deleted: bool,
}

/// A row of the history, and the authorities that it is listed for.
#[derive(Debug)]
struct ModelAccess {
    id: Uuid,
    number: usize,
    author: String,
    at: DateTime<Utc>,
    listed_for: Vec<usize>,
}

#[derive(Default)]
struct Model {
    plans: Vec<ModelPlan>,
    /// In the order in which they were written.
    accesses: Vec<ModelAccess>,
    replaced_by: [Option<usize>; NUMBERS],
    status: [Option<NumberStatus>; NUMBERS],
}

impl Model {
    fn is(&self, number: usize, status: NumberStatus) -> bool {
        self.status[number] == Some(status)
    }

    fn end_of(&self, number: usize) -> usize {
        match self.replaced_by[number] {
            // Retired: no join anywhere.
            Some(next) if !self.is(number, NumberStatus::Retired) && !self.is(next, NumberStatus::Retired) => {
                self.end_of(next)
            }
            _ => number,
        }
    }

    /// "The child": all numbers that lead to the same end.
    fn child(&self, number: usize) -> Vec<usize> {
        (0..NUMBERS).filter(|other| self.end_of(*other) == self.end_of(number)).collect()
    }

    /// Design 2: visible while today <= end + 365 (CPP, LAC) or + 28 (UCP, which ends at most 300 days after its
    /// start); no CPP or LAC from the 18th birthday.
    fn is_visible(&self, plan: &ModelPlan, end_number: usize, today: NaiveDate) -> bool {
        let shown_for = |end: NaiveDate, days: u64| today <= end + Days::new(days);
        if plan.deleted {
            return false;
        }
        if plan.plan_type == PlanType::Unborn {
            let longest = plan.start + Days::new(300);
            return shown_for(plan.end.map_or(longest, |end| end.min(longest)), 28);
        }
        let birth: NaiveDate = BIRTH_DATES[self.birth_of(plan, end_number)].parse().unwrap();
        let eighteenth = NaiveDate::parse_from_str(
            &format!("{}{}", birth.format("%Y").to_string().parse::<i32>().unwrap() + 18, birth.format("-%m-%d")),
            "%Y-%m-%d",
        );
        today < eighteenth.unwrap() && plan.end.is_none_or(|end| shown_for(end, 365))
    }

    /// Birth date = traced, else the authority's: the end's, if anything was ever traced for it.
    fn birth_of(&self, plan: &ModelPlan, end_number: usize) -> usize {
        let traced = self.plans.iter().any(|other| other.number == end_number);
        if traced { end_number } else { plan.number }
    }

    fn visible_plans(&self, number: usize, today: NaiveDate) -> Vec<&ModelPlan> {
        let (child, end) = (self.child(number), self.end_of(number));
        let gone = |n: usize| {
            self.is(n, NumberStatus::Invalid)
                || self.is(n, NumberStatus::Retired)
                || self.is(n, NumberStatus::Restricted)
        };
        if gone(number) || gone(end) || child.iter().any(|n| self.is(*n, NumberStatus::Restricted)) {
            return Vec::new();
        }
        let of_child = self.plans.iter().filter(|plan| child.contains(&plan.number));
        of_child.filter(|plan| self.is_visible(plan, end, today)).collect()
    }

    /// Whom an unscheduled access now is listed for.
    fn listed_for(&self, number: usize, author: &str, now: DateTime<Utc>, today: NaiveDate) -> Vec<usize> {
        let child = self.child(number);
        let holders = self.visible_plans(number, today);
        (0..AUTHORITIES.len())
            .filter(|authority| holders.iter().any(|plan| plan.authority == *authority))
            .filter(|authority| {
                !self.accesses.iter().any(|access| {
                    child.contains(&access.number)
                        && access.author == author
                        && access.listed_for.contains(authority)
                        && access.at <= now
                        && now < access.at + TimeDelta::hours(24)
                })
            })
            .collect()
    }

    /// Newest first, at most 25, the caller's own newest row among them.
    fn shown(&self, number: usize, own: Option<&str>) -> Vec<Uuid> {
        let child = self.child(number);
        let rows: Vec<&ModelAccess> = self.accesses.iter().rev().filter(|row| child.contains(&row.number)).collect();
        let mut shown: Vec<Uuid> = rows.iter().take(25).map(|row| row.id).collect();
        if let Some(own) = rows.iter().find(|row| Some(row.author.as_str()) == own)
            && !shown.contains(&own.id)
        {
            shown[24] = own.id;
        }
        shown
    }
}

/// One sequence being played to the gateway and to the model.
struct Play<'a> {
    app: &'a TestApp,
    model: Model,
    numbers: [NhsNumber; NUMBERS],
    authors: Vec<Caller>,
    authorities: Vec<Caller>,
}

impl<'a> Play<'a> {
    async fn begin(app: &'a TestApp) -> Self {
        static USED: AtomicU32 = AtomicU32::new(1_000);
        let first = USED.fetch_add(NUMBERS as u32, Ordering::SeqCst);
        let numbers = std::array::from_fn(|index| number(first + index as u32));
        for (number, birth_date) in numbers.iter().zip(BIRTH_DATES) {
            app.register(&Child { number: *number, family: "Testcase", given: "Robin", birth_date }).await;
        }
        let device = |name: &str, site: &str| Author::Device {
            responsible: ResponsiblePerson {
                name: name.to_owned(),
                role_code: None,
                role_name: "Named Doctor".to_owned(),
                phone: None,
            },
            site: Some(ods(site)),
        };
        let authors = vec![
            app.person_at("ZZ101", "000000000001").await,
            app.person_at("ZZ121", "000000000001").await,
            app.person_at("ZZ131", "000000000003").await,
            app.caller_of(Role::Clinical, "ZZ101", device("EXAMPLE, Robin (Dr)", "ZZ10102")).await,
            app.caller_of(Role::Clinical, "ZZ101", device("EXAMPLE, Robin (Dr)", "ZZ10101")).await,
        ];
        let mut authorities = Vec::new();
        for ods in AUTHORITIES {
            authorities.push(app.caller_of(Role::LocalAuthority, ods, Author::System).await);
        }
        Self { app, model: Model::default(), numbers, authors, authorities }
    }

    fn today(&self) -> NaiveDate {
        self.app.clock.now().with_timezone(&London).date_naive()
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait(time) => self.app.clock.advance(*time),
            Step::Look { author, number, kind } => {
                let (caller, name) = (self.authors[*author].clone(), format!("author {author}"));
                self.look(&caller, &name, *number, *kind).await?;
            }
            Step::Crowd { number, size } => {
                for index in 0..*size {
                    let caller = self.app.person_at("ZZ111", &format!("{index:012}")).await;
                    self.look(&caller, &format!("crowd {index}"), *number, AccessKind::Unscheduled).await?;
                }
            }
            Step::Put { authority, number, plan_type, start, end } => {
                let start = self.today() - Days::new(*start);
                let end = end.map(|days| self.today() - TimeDelta::days(days));
                self.upload(*authority, *number, *plan_type, PlanAction::Put { start, end }).await;
            }
            Step::Delete { authority, number, plan_type } => {
                self.upload(*authority, *number, *plan_type, PlanAction::Delete { start: None }).await;
            }
            Step::Supersede { old, replacing } => self.supersede(*old, *replacing).await?,
            Step::Status { number, status } => {
                self.app.set_status(self.numbers[*number], *status).await;
                self.model.status[*number] = Some(*status);
            }
        }
        Ok(())
    }

    async fn look(&mut self, caller: &Caller, author: &str, number: usize, kind: AccessKind) -> Result<(), String> {
        let (now, today) = (self.app.clock.now(), self.today());
        let mut expected: Vec<Uuid> = self.model.visible_plans(number, today).iter().map(|plan| plan.id).collect();
        let listed_for = match kind {
            AccessKind::Unscheduled => self.model.listed_for(number, author, now, today),
            AccessKind::Silent => Vec::new(),
        };
        let ask = self.app.look_up_of(caller, self.numbers[number], kind);
        let found = self.app.app.gateway.look_up(ask).await.map_err(|error| error.to_string())?;
        let found = found.ok_or("a search by number is always answered")?;
        if !listed_for.is_empty() {
            // The one thing that the model can't know is the new row's id.
            let new = found.history.iter().find(|row| self.model.accesses.iter().all(|known| known.id != row.id));
            let new = new.ok_or("a listed access is missing from the history")?;
            if (new.at, new.nhs_number) != (now, self.numbers[number]) {
                return Err(format!("the new row is of {} with another time or number", new.at));
            }
            let access = ModelAccess { id: new.id, number, author: author.to_owned(), at: now, listed_for };
            self.model.accesses.push(access);
        }
        let mut shown: Vec<Uuid> = found.plans.iter().map(|shown| shown.plan.id).collect();
        shown.sort_unstable();
        expected.sort_unstable();
        if shown != expected {
            return Err(format!("plans {shown:?}, expected {expected:?}: {:?}", self.model.plans));
        }
        self.compare_history(&found, number, (kind == AccessKind::Unscheduled).then_some(author))
    }

    fn compare_history(&self, found: &Found, number: usize, own: Option<&str>) -> Result<(), String> {
        let on_record = !found.plans.is_empty();
        let history: Vec<Uuid> = found.history.iter().map(|row| row.id).collect();
        let expected = if on_record { self.model.shown(number, own) } else { Vec::new() };
        if history != expected {
            return Err(format!("history {history:?}, expected {expected:?}: {:?}", self.model.accesses));
        }
        let end = self.model.end_of(number);
        let superseded = (on_record && end != number).then(|| self.numbers[end]);
        if found.superseded_by != superseded { Err("superseded_by".to_owned()) } else { Ok(()) }
    }

    /// Whether a record is accepted is the subject of other tests: the model follows the answer.
    async fn upload(&mut self, authority: usize, number: usize, plan_type: PlanType, action: PlanAction) {
        let caller = self.authorities[authority].clone();
        let nhs_number = self.numbers[number];
        let birth_date = BIRTH_DATES[number];
        let child = Child { number: nhs_number, family: "Testcase", given: "Robin", birth_date };
        let local_id = LocalPlanId::parse(&format!("{}-{number}-{}", AUTHORITIES[authority], plan_type.code()));
        let change = PlanChange {
            entry: 1,
            key: PlanKey::Content,
            plan_type: Some(plan_type),
            local_id,
            action: action.clone(),
        };
        let sent = ChildChange {
            entry: 0,
            demographics: child.demographics(),
            local_id: None,
            precondition: Precondition::None,
        };
        let record = RecordChange { nhs_number, child: Some(sent), plans: vec![change] };
        let upload = Upload {
            head: UploadHead::new(caller, self.app.context("POST /"), Interaction::Batch, Door::Bundle),
            records: vec![record.into()],
        };
        let applied = self.app.app.gateway.upload(upload).await.expect("the upload is judged");
        let Ok(loaded) = &applied.records[0] else { return };
        for entry in &loaded.entries {
            let LoadedRef::Plan(id) = entry.of else { continue };
            let held = match self.model.plans.iter_mut().find(|plan| plan.id == id) {
                Some(held) => held,
                None => {
                    let PlanAction::Put { start, .. } = action else { panic!("a delete makes no plan") };
                    let new = ModelPlan { id, authority, number, plan_type, start, end: None, deleted: false };
                    self.model.plans.push(new);
                    self.model.plans.last_mut().expect("it was just pushed")
                }
            };
            match action {
                PlanAction::Put { start, end } => (held.start, held.end) = (start, end),
                PlanAction::Delete { .. } => held.deleted = true,
            }
        }
    }

    async fn supersede(&mut self, old: usize, replacing: usize) -> Result<(), String> {
        if self.model.replaced_by[old].is_some() {
            return Ok(());
        }
        let mut at = Some(replacing);
        let mut closes_a_loop = false;
        while let Some(number) = at {
            closes_a_loop |= number == old;
            at = self.model.replaced_by[number];
        }
        let retired = self.model.is(old, NumberStatus::Retired) || self.model.is(replacing, NumberStatus::Retired);
        let refused = closes_a_loop || retired;
        let stored = self.app.supersede(self.numbers[old], self.numbers[replacing]).await;
        if stored.is_ok() == refused {
            return Err(format!("superseding {old} by {replacing}: {stored:?}"));
        }
        if !refused {
            self.model.replaced_by[old] = Some(replacing);
            if !self.model.is(old, NumberStatus::Restricted) {
                self.model.status[old] = Some(NumberStatus::Superseded);
            }
        }
        Ok(())
    }

    /// What is stored at the end: history rows, whom each is listed for, and one outbox row for each of these.
    async fn compare_store(&self, outbox_before: i64) -> Result<(), String> {
        let mut expected_outbox = outbox_before;
        for access in &self.model.accesses {
            let id = access.id;
            let stored = self.app.read(move |conn| {
                let row = store::access::find(conn, id)?.expect("the access is stored");
                let listed = store::access::listings_of(conn, row.sequence)?;
                let told = store::outbox::authorities_of(conn, row.sequence)?;
                Ok((listed.into_iter().map(|listing| listing.authority).collect::<Vec<_>>(), told))
            });
            let mut expected: Vec<i64> =
                access.listed_for.iter().map(|authority| self.authorities[*authority].organization.id).collect();
            expected.sort_unstable();
            let (listed, told) = stored.await;
            if listed != expected || told != expected {
                return Err(format!("listed {listed:?}, outbox {told:?}, expected {expected:?}: {access:?}"));
            }
            expected_outbox += expected.len() as i64;
        }
        match self.app.number("select count(*) as n from outbox") {
            outbox if outbox == expected_outbox => Ok(()),
            outbox => Err(format!("{outbox} rows in the outbox, expected {expected_outbox}")),
        }
    }
}

async fn play(app: &TestApp, steps: &[Step]) -> Result<(), String> {
    app.clock.set(crate::harness::noon());
    let outbox_before = app.number("select count(*) as n from outbox");
    let mut play = Play::begin(app).await;
    for (index, step) in steps.iter().enumerate() {
        play.step(step).await.map_err(|fault| format!("step {index} ({step:?}): {fault}"))?;
    }
    play.compare_store(outbox_before).await
}

fn agrees_with_the_model(backend: Backend) {
    let system = actix_web::rt::System::new();
    let app = system.block_on(TestApp::start(backend));
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&steps(), |steps| system.block_on(play(&app, &steps)).map_err(TestCaseError::fail));
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let report = system.block_on(async { app.verify() });
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn the_history_agrees_with_the_model_on_sqlite() {
    agrees_with_the_model(Backend::Sqlite);
}

#[test]
fn the_history_agrees_with_the_model_on_postgres() {
    agrees_with_the_model(Backend::Postgres);
}
