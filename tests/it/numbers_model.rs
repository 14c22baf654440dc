//! Whatever is said of a few numbers, in whatever order: each look-up shows what a model of design 9's table says. The model
//! knows no database: a state for each number, and which number replaced which.

use cpis_gateway::cpis::{
    numbers::Changed,
    types::{
        NhsNumber,
        access::AccessKind,
        audit::{Interaction, RequestEvent},
        caller::{Author, Caller, Role},
        child::NumberChange,
    },
};

use crate::harness::{Backend, CPP, TestApp, child, on_both_stores};

const NUMBERS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    InUse,
    Invalid,
    Retired,
}

#[derive(Clone, Debug)]
struct Model {
    standing: [Standing; NUMBERS],
    replaced_by: [Option<usize>; NUMBERS],
    restricted: [bool; NUMBERS],
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Current,
    Superseded(usize),
    Invalidated,
    Retired,
    Restricted,
    Unrestricted,
}

impl Model {
    fn leads_to(&self, from: usize, to: usize) -> bool {
        from == to || self.replaced_by[from].is_some_and(|next| self.leads_to(next, to))
    }

    fn end(&self, of: usize) -> usize {
        self.replaced_by[of].map_or(of, |next| self.end(next))
    }

    /// False for what is refused.
    fn take(&mut self, of: usize, said: Said) -> bool {
        match said {
            Said::Current => {
                (self.standing[of], self.replaced_by[of], self.restricted[of]) = (Standing::InUse, None, false);
            }
            Said::Superseded(by) => {
                if [self.standing[of], self.standing[by]].contains(&Standing::Retired) || self.leads_to(by, of) {
                    return false;
                }
                (self.standing[of], self.replaced_by[of]) = (Standing::InUse, Some(by));
            }
            Said::Invalidated => self.standing[of] = Standing::Invalid,
            Said::Retired => {
                (self.standing[of], self.replaced_by[of]) = (Standing::Retired, None);
                for older in 0..NUMBERS {
                    if self.replaced_by[older] == Some(of) {
                        (self.standing[older], self.replaced_by[older]) = (Standing::Invalid, None);
                    }
                }
            }
            Said::Restricted => self.restricted[of] = true,
            Said::Unrestricted => self.restricted[of] = false,
        }
        true
    }

    /// Plans that a look-up shows: each number has one.
    fn shown(&self, asked: usize) -> usize {
        let end = self.end(asked);
        let members: Vec<usize> = (0..NUMBERS).filter(|one| self.end(*one) == end).collect();
        let in_use = |one: usize| self.standing[one] == Standing::InUse;
        let restricted = members.iter().any(|one| self.restricted[*one]);
        if restricted || !in_use(asked) || !in_use(end) { 0 } else { members.len() }
    }
}

/// Numbers that look random and are the same each time (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn said(&mut self, of: usize) -> Said {
        match self.below(10) {
            0 | 1 => Said::Current,
            2..=5 => Said::Superseded((of + 1 + self.below(NUMBERS - 1)) % NUMBERS),
            6 => Said::Invalidated,
            7 => Said::Retired,
            8 => Said::Restricted,
            _ => Said::Unrestricted,
        }
    }
}

async fn shown(app: &TestApp, caller: &Caller, number: NhsNumber) -> usize {
    let found = app.app.gateway.look_up(app.look_up_of(caller, number, AccessKind::Silent)).await.expect("an answer");
    found.map_or(0, |found| found.plans.len())
}

async fn assert_follows_the_model(backend: Backend, sequences: u64, steps: usize) {
    for seed in 0..sequences {
        let app = TestApp::start_with(backend, |settings| settings.limits.distinct_children_per_hour = 0).await;
        let numbers: [NhsNumber; NUMBERS] =
            std::array::from_fn(|index| child(u32::try_from(index).unwrap() + 1).number);
        for (index, authority) in ["Z9A", "Z9B", "Z9C", "Z9A", "Z9B"].into_iter().enumerate() {
            app.on_record(&child(u32::try_from(index).unwrap() + 1), &[(authority, CPP, "2026-09-14", None)]).await;
        }
        let clinician = app.person_at("ZZ101", "555000000101").await;
        let administrator = app.caller_of(Role::Administrator, "ZZ101", Author::System).await;
        let (mut dice, mut past) = (Dice(seed), Vec::new());
        let mut model =
            Model { standing: [Standing::InUse; NUMBERS], replaced_by: [None; NUMBERS], restricted: [false; NUMBERS] };
        for _ in 0..steps {
            let of = dice.below(NUMBERS);
            let said = dice.said(of);
            past.push((of, said));
            let change = match said {
                Said::Current => NumberChange::Current,
                Said::Superseded(by) => NumberChange::Superseded(numbers[by]),
                Said::Invalidated => NumberChange::Invalidated,
                Said::Retired => NumberChange::Retired,
                Said::Restricted => NumberChange::Restricted,
                Said::Unrestricted => NumberChange::Unrestricted,
            };
            let event =
                RequestEvent::new(Interaction::Operation, &administrator, &app.context("POST /Patient/$inactive"));
            let changed = app.app.gateway.set_number_status(numbers[of], change, event).await.expect("a change");
            assert_eq!(changed != Changed::Refused, model.take(of, said), "seed {seed}: {past:?}");
            for (index, number) in numbers.iter().enumerate() {
                let seen = shown(&app, &clinician, *number).await;
                assert_eq!(seen, model.shown(index), "seed {seed}, number {index} after {past:?}: {model:?}");
            }
            // The same fact once more is none.
            let told = "select count(*) as n from outbox";
            let before = app.number(told);
            let event =
                RequestEvent::new(Interaction::Operation, &administrator, &app.context("POST /Patient/$inactive"));
            app.app.gateway.set_number_status(numbers[of], change, event).await.expect("a change");
            assert_eq!(app.number(told), before, "seed {seed}: told twice after {past:?}");
        }
        let joined = "select count(*) as n from alias a join person p on p.id in (a.old_person_id, a.replacing_person_id) \
                      where p.status = 'retired' or p.beneath = 'retired'";
        assert_eq!(app.number(joined), 0, "seed {seed}");
        assert!(app.verify().is_whole(), "seed {seed}");
    }
}

on_both_stores! {
    async fn every_look_up_shows_what_the_table_says(backend) {
        let (sequences, steps) = if backend == Backend::Sqlite { (10, 24) } else { (3, 24) };
        assert_follows_the_model(backend, sequences, steps).await;
    }
}
