//! Reads one record: whom it is about, and one to three plans; or everything that is wrong with it.

use chrono::NaiveDate;
use chrono_tz::Europe::London;
use openssl::sha::Sha256;

use super::{
    header::{FileHeader, ods_code, organisation},
    template::{Found, PlanDate, Template, find},
};
use crate::{
    cpis::types::{
        LocalPlanId, NhsNumber, PlanType, Precondition,
        child::Demographics,
        upload::{
            ChildChange, PlanAction, PlanChange, PlanKey, Problem, ProblemKind, ReadRecord, RecordChange, RecordCode,
            SUBJECT_ENTRY, UnreadableRecord,
        },
    },
    hl7v3::{
        oid, time,
        xml::{Element, Space},
    },
};

/// Plans that a record has at most.
const MOST_PLANS: usize = 3;

pub(super) fn read(record: &Element, header: &FileHeader) -> ReadRecord {
    let mut reading = Reading { header, problems: Vec::new() };
    let (nhs_number, change) = reading.record(record);
    match change {
        Some(change) if reading.problems.is_empty() => ReadRecord::Change(change),
        _ => {
            if reading.problems.is_empty() {
                reading.rule(SUBJECT_ENTRY, "", "The record can't be read.");
            }
            reading.problems.sort_by_key(|problem| problem.entry);
            ReadRecord::Unreadable(UnreadableRecord { nhs_number, problems: reading.problems, digest: digest(record) })
        }
    }
}

/// A record on its way; every problem is kept.
struct Reading<'a> {
    header: &'a FileHeader,
    problems: Vec<Problem>,
}

/// A date as it was sent.
enum Sent {
    Nothing,
    Day(NaiveDate),
    /// A problem was told.
    Unreadable,
}

impl Reading<'_> {
    fn problem(&mut self, entry: usize, code: RecordCode, element: &'static str, reason: &str) {
        let problem = Problem { entry, code, kind: ProblemKind::Rule, reason: reason.to_owned(), element };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn rule(&mut self, entry: usize, element: &'static str, reason: &str) {
        self.problem(entry, RecordCode::Cpr07, element, reason);
    }

    fn record(&mut self, record: &Element) -> (Option<NhsNumber>, Option<RecordChange>) {
        self.envelope(record);
        let found = find(record);
        let (plans, subjects): (Vec<&Found<'_>>, Vec<&Found<'_>>) =
            found.iter().partition(|found| found.template.is_plan());
        if subjects.iter().any(|subject| !subject.agrees) {
            self.rule(SUBJECT_ENTRY, "", OTHER_CONTENT_ID);
        }
        let subject = match subjects.as_slice() {
            [subject] => Some(*subject),
            [] => {
                let words = "Say whom the record is about, with the NHS number: subject with the template of a child or an \
                             unborn child.";
                self.problem(SUBJECT_ENTRY, RecordCode::Cpr04, "identifier", words);
                None
            }
            _ => {
                self.rule(SUBJECT_ENTRY, "", "The record is about several persons. Send one record for each.");
                None
            }
        };
        let (nhs_number, child) = subject.map_or((None, None), |subject| self.subject(subject.element));
        let changes = self.plans(&plans, subject.map(|subject| subject.template));
        let change = match (nhs_number, child, changes) {
            (Some(nhs_number), Some(child), Some(plans)) => {
                Some(RecordChange { nhs_number, child: Some(child), plans })
            }
            _ => None,
        };
        (nhs_number, change)
    }

    /// What is not whom and which plans.
    fn envelope(&mut self, record: &Element) {
        if record.below().any(|element| element.space == Space::Other && element.name != "contentId") {
            self.rule(SUBJECT_ENTRY, "", "An element of the record is in another namespace than urn:hl7-org:v3.");
        }
        let senders = record.all("communicationFunctionSnd").filter_map(organisation).filter_map(ods_code);
        if senders.into_iter().any(|sender| sender != self.header.sender) {
            self.rule(SUBJECT_ENTRY, "", "The record names another authority than the file's sender.");
        }
    }

    fn subject(&mut self, subject: &Element) -> (Option<NhsNumber>, Option<ChildChange>) {
        let nhs_number = self.nhs_number(subject);
        let local_id = self.local_id(subject, SUBJECT_ENTRY);
        let name = self.name(subject);
        let birth_date = self.birth_date(subject);
        let child = match (name, birth_date, local_id) {
            (Some((family, given)), Some(birth_date), Ok(local_id)) => Some(ChildChange {
                entry: SUBJECT_ENTRY,
                demographics: Demographics { family, given, birth_date },
                local_id: local_id.map(|id| id.as_str().to_owned()),
                precondition: Precondition::None,
            }),
            _ => None,
        };
        (nhs_number, child)
    }

    /// The number of the id with the NHS number's root; where roots are absent, the first id's.
    fn nhs_number(&mut self, subject: &Element) -> Option<NhsNumber> {
        let mut numbers: Vec<&str> = of_root(subject, Some(oid::NHS_NUMBER)).collect();
        if numbers.is_empty() {
            numbers.extend(of_root(subject, None).next());
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut refuse = |reason: &str| self.problem(SUBJECT_ENTRY, RecordCode::Cpr04, "identifier", reason);
        match numbers.as_slice() {
            [text] => match NhsNumber::parse(text) {
                Ok(number) => return Some(number),
                Err(invalid) => refuse(&sentence(&invalid.to_string())),
            },
            [] => refuse("Give the NHS number: an id with the root 2.16.840.1.113883.2.1.4.1."),
            _ => refuse("Give only one NHS number."),
        }
        None
    }

    /// The authority's own id directly below an element, or below the persons in it.
    fn local_id(&mut self, element: &Element, entry: usize) -> Result<Option<LocalPlanId>, ()> {
        let mut ids: Vec<&str> = of_root(element, Some(oid::LOCAL_ID)).collect();
        ids.sort_unstable();
        ids.dedup();
        let reason = match ids.as_slice() {
            [] => return Ok(None),
            [id] => match LocalPlanId::parse(id) {
                Some(id) => return Ok(Some(id)),
                None => "A local id has 1 to 64 printable characters, without a space at either end.",
            },
            _ => "Give only one local id.",
        };
        self.rule(entry, "identifier", reason);
        Err(())
    }

    /// Family and given names of the registered name: that of use L, else one without a use, else the only one.
    fn name(&mut self, subject: &Element) -> Option<(String, Vec<String>)> {
        let names: Vec<&Element> = subject.all("name").filter(|name| name.child("family").is_some()).collect();
        let uses = |name: &&&Element, usage: &str| {
            name.attribute("use").is_some_and(|uses| uses.split_whitespace().any(|one| one == usage))
        };
        let legal = names.iter().find(|name| uses(name, "L"));
        let chosen = legal.or_else(|| names.iter().find(|name| name.attribute("use").is_none()));
        let chosen = chosen.or_else(|| if names.len() == 1 { names.first() } else { None });
        let family = chosen.and_then(|name| name.child("family")).and_then(Element::words);
        let given = chosen.map(|name| name.children.as_slice()).unwrap_or_default().iter();
        let given = given.filter(|part| part.is("given")).filter_map(Element::words).collect();
        if family.is_none() {
            let words = "Give the registered name with its parts: name of use L with family and given.";
            self.rule(SUBJECT_ENTRY, "name", words);
        }
        Some((family?, given))
    }

    fn birth_date(&mut self, subject: &Element) -> Option<NaiveDate> {
        let mut sent: Vec<&str> = subject.all("birthTime").filter_map(|birth| birth.value()).collect();
        sent.sort_unstable();
        sent.dedup();
        let day = match sent.as_slice() {
            [text] => time::written_day(text),
            _ => None,
        };
        if day.is_none() {
            let words = "Give one birth date that exists, with year, month and day: birthTime with value yyyymmdd.";
            self.rule(SUBJECT_ENTRY, "birthDate", words);
        }
        day
    }

    /// `None` when any of them can't be read.
    fn plans(&mut self, plans: &[&Found<'_>], subject: Option<Template>) -> Option<Vec<PlanChange>> {
        if plans.is_empty() {
            self.rule(SUBJECT_ENTRY, "", "The record has no plan. Send one to three.");
        }
        if plans.len() > MOST_PLANS {
            self.rule(SUBJECT_ENTRY, "", "The record has more than three plans. Send one of each type at most.");
        }
        let mut changes = Vec::new();
        for (index, found) in plans.iter().enumerate() {
            let entry = index + 1;
            let Template::Plan(plan_type) = found.template else {
                let words = "The template of this plan isn't known. An upload has COCT_TP146101GB01 (CPP), \
                             COCT_TP146100GB01 (LAC) and COCT_TP146102GB01 (UCP).";
                self.rule(entry, "code", words);
                changes.push(None);
                continue;
            };
            if !found.agrees {
                self.rule(entry, "code", OTHER_CONTENT_ID);
            }
            if plans.iter().filter(|other| other.template == found.template).count() > 1 {
                self.rule(entry, "code", "The record has several plans of this type. Send one of each type at most.");
            }
            match (subject, plan_type) {
                (Some(Template::Child), PlanType::Unborn) => {
                    self.rule(
                        entry,
                        "code",
                        "A plan for an unborn child needs the mother as the subject: UnbornChild.",
                    );
                }
                (Some(Template::UnbornChild), PlanType::ChildProtection | PlanType::LookedAfter) => {
                    self.rule(entry, "code", "For an unborn child there is only the plan for an unborn child (UCP).");
                }
                _ => {}
            }
            changes.push(self.plan(entry, plan_type, found.element));
        }
        changes.into_iter().collect()
    }

    fn plan(&mut self, entry: usize, plan_type: PlanType, element: &Element) -> Option<PlanChange> {
        let own: Vec<&str> = PlanDate::ALL.iter().map(|date| date.name(plan_type)).collect();
        let others = [PlanType::ChildProtection, PlanType::LookedAfter, PlanType::Unborn];
        let others = others.iter().flat_map(|other| PlanDate::ALL.iter().map(|date| date.name(*other)));
        let others: Vec<&str> = others.filter(|name| !own.contains(name)).collect();
        if element.below().any(|part| others.iter().any(|name| name.eq_ignore_ascii_case(&part.name))) {
            self.rule(entry, "code", "The plan has a date of another type of plan.");
        }
        let start = self.date(entry, element, PlanDate::Start, plan_type);
        let end = self.date(entry, element, PlanDate::End, plan_type);
        let delete = self.date(entry, element, PlanDate::Delete, plan_type);
        let local_id = self.local_id(element, entry);
        if let Sent::Nothing = start {
            self.rule(entry, "period.start", "Give the day on which the plan started.");
        }
        let (Sent::Day(start), Ok(local_id)) = (start, local_id) else { return None };
        let action = match (end, delete) {
            (Sent::Unreadable, _) | (_, Sent::Unreadable) => return None,
            (Sent::Nothing, Sent::Nothing) => PlanAction::Put { start, end: None },
            (Sent::Day(end), Sent::Nothing) => PlanAction::Put { start, end: Some(end) },
            (_, Sent::Day(deleted)) => {
                self.deletion(entry, start, deleted);
                PlanAction::Delete { start: Some(start) }
            }
        };
        Some(PlanChange { entry, key: PlanKey::Content, plan_type: Some(plan_type), local_id, action })
    }

    /// A deletion is done at once: one for later would hide a plan too early.
    fn deletion(&mut self, entry: usize, start: NaiveDate, deleted: NaiveDate) {
        if deleted < start {
            self.rule(entry, "status", "The deletion can't lie before the start of the plan.");
        }
        match self.header.created {
            Some(created) if deleted > created => {
                self.rule(entry, "status", "The deletion lies after the day of the file. Send it on its day.");
            }
            Some(_) => {}
            None => self.rule(entry, "status", "A file with a deletion needs its creationTime."),
        }
    }

    fn date(&mut self, entry: usize, element: &Element, date: PlanDate, plan_type: PlanType) -> Sent {
        let name = date.name(plan_type);
        let mut parts = element.below().filter(|part| part.space == Space::Hl7 && part.name.eq_ignore_ascii_case(name));
        let (Some(part), None) = (parts.next(), parts.next()) else {
            if element.below().any(|part| part.name.eq_ignore_ascii_case(name)) {
                self.rule(entry, date.element(), "The date stands twice in the plan. Send it once.");
                return Sent::Unreadable;
            }
            return Sent::Nothing;
        };
        let text = part.value();
        let null = std::iter::once(part).chain(part.below()).any(|one| one.attribute("nullFlavor").is_some());
        if null && text.is_none() {
            return Sent::Nothing;
        }
        match text.and_then(|text| time::civil_day(text, London)) {
            Some(day) => Sent::Day(day),
            None => {
                self.rule(entry, date.element(), "Give a date that exists, with year, month and day, as yyyymmdd.");
                Sent::Unreadable
            }
        }
    }
}

const OTHER_CONTENT_ID: &str = "contentId names another template than the one that follows. Make the two agree.";

/// Extensions of the ids below an element that have this root.
fn of_root<'a>(element: &'a Element, root: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    element.all("id").filter(move |id| id.attribute("root") == root).filter_map(|id| id.attribute("extension"))
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

/// Over elements, attributes and texts, whatever the white space and the prefixes.
fn digest(record: &Element) -> [u8; 32] {
    fn add(hash: &mut Sha256, part: &str) {
        // With its length, so that no two records are one text.
        let part = part.split_whitespace().collect::<Vec<&str>>().join(" ");
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    fn element(hash: &mut Sha256, record: &Element) {
        hash.update(&[match record.space {
            Space::Hl7 => 1,
            Space::Localisation => 2,
            Space::Other => 3,
        }]);
        add(hash, &record.name);
        let mut attributes: Vec<&(String, String)> = record.attributes.iter().collect();
        attributes.sort();
        hash.update(&(attributes.len() as u64).to_be_bytes());
        for (name, value) in attributes {
            add(hash, name);
            add(hash, value);
        }
        add(hash, &record.text);
        hash.update(&(record.children.len() as u64).to_be_bytes());
        for child in &record.children {
            element(hash, child);
        }
    }
    let mut hash = Sha256::new();
    element(&mut hash, record);
    hash.finish()
}
