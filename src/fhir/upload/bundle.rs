//! Reads an upload Bundle into records, one for each NHS number (design 6).

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{
    Reading,
    content::{FullUrls, Unusable, flag_entry, nhs_number, organization_entry, patient_entry, subject_number},
    layout::{EntryShape, Frame},
    not_r4,
    request::{EntryRequest, delete_by_criteria, delete_by_id, read_request, unknown_plan},
    rule,
};
use crate::{
    cpis::types::{
        NhsNumber,
        upload::{ChildChange, OrganizationChange, PlanChange, PlanKey, RecordChange, RecordCode},
    },
    fhir::{
        json::{self, FaultKind},
        outcome::{Issue, IssueCode, SpineCode},
        system,
    },
};

/// `Bundle.type` of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum BundleKind {
    /// Each record is judged by itself.
    Batch,
    /// All or nothing.
    Transaction,
}

/// Something wrong with an entry. The issue's expression begins with `Bundle.entry[n]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EntryIssue {
    pub entry: usize,
    pub issue: Issue,
}

/// All entries about one NHS number; or one entry whose number can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRecord {
    /// `None` when it can't be read.
    pub nhs_number: Option<NhsNumber>,
    /// Positions in the Bundle, rising.
    pub entries: Vec<usize>,
    /// What is to happen, or why the record is refused before it is judged.
    pub content: Result<RecordChange, Vec<EntryIssue>>,
}

/// An upload Bundle whose envelope is right.
#[derive(Clone, Debug)]
pub struct UploadBundle {
    pub kind: BundleKind,
    /// The file number in `Bundle.identifier`.
    pub file_number: Option<i64>,
    /// The authority's own details, to be applied before the records.
    pub organization: Option<Result<OrganizationChange, Vec<EntryIssue>>>,
    /// By first entry. Complete once [`UploadBundle::place`] has run.
    pub records: Vec<UploadRecord>,
    /// Deletes by plan id: which child's, only the plan's row tells.
    unplaced: Vec<PlanChange>,
    shapes: Vec<EntryShape>,
    /// What each entry says, as a hash.
    pub(super) digests: Vec<[u8; 32]>,
}

impl UploadBundle {
    /// How many entries the Bundle has.
    pub fn entries(&self) -> usize {
        self.shapes.len()
    }

    /// What the answer needs to know of the entries.
    pub fn frame(&self) -> Frame {
        Frame::new(self.kind, self.shapes.clone())
    }

    /// Ids of plans whose child must be looked up for [`UploadBundle::place`].
    pub fn unplaced(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.unplaced.iter().filter_map(|change| match change.key {
            PlanKey::Id { id, .. } => Some(id),
            PlanKey::Content | PlanKey::Criteria(_) => None,
        })
    }

    /// Puts deletes by id into the records of their children. `child_of` gives the number under which the authority sent
    /// the child of its own plan (deleted plans too); an id that it doesn't know is a record by itself, refused.
    pub fn place(&mut self, mut child_of: impl FnMut(Uuid) -> Option<NhsNumber>) {
        let mut records = Records::of(std::mem::take(&mut self.records));
        for change in std::mem::take(&mut self.unplaced) {
            let entry = change.entry;
            let number = match change.key {
                PlanKey::Id { id, .. } => child_of(id),
                PlanKey::Content | PlanKey::Criteria(_) => None,
            };
            let unknown = || vec![unknown_plan().at(format!("Bundle.entry[{entry}].request.url"))];
            let part = if number.is_some() { Ok(Part::Plan(change)) } else { Err(unknown()) };
            records.add(number, entry, part);
        }
        self.records = records.into_list();
    }

    /// The issues found while reading, by entry; a transaction with any is refused whole.
    pub fn issues(&self) -> Vec<EntryIssue> {
        let of_organization = self.organization.iter().filter_map(|read| read.as_ref().err());
        let of_records = self.records.iter().filter_map(|record| record.content.as_ref().err());
        let mut issues: Vec<EntryIssue> = of_organization.chain(of_records).flatten().cloned().collect();
        issues.sort_by_key(|issue| issue.entry);
        issues
    }
}

/// What an entry brings to its record.
enum Part {
    Child(ChildChange),
    Plan(PlanChange),
}

/// What an entry was read as.
enum Read {
    Part(NhsNumber, Part),
    Unplaced(PlanChange),
    Organization(OrganizationChange),
}

/// Records in the making.
#[derive(Default)]
struct Records {
    list: Vec<UploadRecord>,
    by_number: HashMap<NhsNumber, usize>,
    /// Entries that sent the child itself, by record.
    children: HashMap<usize, Vec<usize>>,
}

impl Records {
    fn of(list: Vec<UploadRecord>) -> Self {
        let numbered = list.iter().enumerate().filter_map(|(index, record)| Some((record.nhs_number?, index)));
        Self { by_number: numbered.collect(), list, children: HashMap::new() }
    }

    /// Adds an entry to the record of its child, or as a record by itself.
    fn add(&mut self, number: Option<NhsNumber>, entry: usize, part: Result<Part, Vec<Issue>>) {
        let next = self.list.len();
        let index = number.map_or(next, |number| *self.by_number.entry(number).or_insert(next));
        if index == next {
            let content = match number {
                Some(nhs_number) => Ok(RecordChange { nhs_number, child: None, plans: Vec::new() }),
                None => Err(Vec::new()),
            };
            self.list.push(UploadRecord { nhs_number: number, entries: Vec::new(), content });
        }
        if let Ok(Part::Child(_)) = part {
            self.children.entry(index).or_default().push(entry);
        }
        if let Some(record) = self.list.get_mut(index) {
            record.add(entry, part);
        }
    }

    fn into_list(mut self) -> Vec<UploadRecord> {
        // Judged when all entries are there, so that their order doesn't change what is told.
        for (index, entries) in self.children.iter().filter(|(_, entries)| entries.len() > 1) {
            if let Some(record) = self.list.get_mut(*index) {
                record.refuse(entries.iter().copied().map(sent_twice).collect());
            }
        }
        for told in self.list.iter_mut().filter_map(|record| record.content.as_mut().err()) {
            told.sort_by_key(|issue| issue.entry);
        }
        self.list.sort_by_key(|record| record.entries.first().copied());
        self.list
    }
}

impl UploadRecord {
    fn add(&mut self, entry: usize, part: Result<Part, Vec<Issue>>) {
        self.entries.push(entry);
        self.entries.sort_unstable();
        match (&mut self.content, part) {
            (Ok(change), Ok(Part::Plan(plan))) => change.plans.push(plan),
            (Ok(change), Ok(Part::Child(sent))) => change.child = Some(sent),
            (Err(_), Ok(_)) => {}
            (_, Err(issues)) => self.refuse(of_entry(entry, issues)),
        }
    }

    fn refuse(&mut self, issues: Vec<EntryIssue>) {
        match &mut self.content {
            Ok(_) => self.content = Err(issues),
            Err(told) => told.extend(issues),
        }
    }
}

fn sent_twice(entry: usize) -> EntryIssue {
    let words = "The child is sent twice. Send one Patient for each NHS number.";
    EntryIssue { entry, issue: rule(&format!("Bundle.entry[{entry}].resource"), words) }
}

fn of_entry(entry: usize, issues: Vec<Issue>) -> Vec<EntryIssue> {
    issues.into_iter().map(|issue| EntryIssue { entry, issue }).collect()
}

/// Reads an upload Bundle that is there as a whole.
///
/// # Errors
/// What is wrong with the envelope: nothing of the Bundle can be used (400 with CPF01, or 413 for an issue `too-long`).
/// Faults inside entries are kept with their records.
pub fn read_bundle(body: &Value, reading: &Reading<'_>) -> Result<UploadBundle, Vec<Issue>> {
    let mut arriving = Arriving::new(body, reading)?;
    for (entry, content) in entries(body, reading)?.iter().enumerate() {
        arriving.entry(entry, content);
    }
    Ok(arriving.end())
}

/// Reads an upload Bundle entry by entry, so that no more than one resource is there at a time.
///
/// # Errors
/// As [`read_bundle`], and what is wrong with the JSON.
pub fn read_upload(body: &[u8], reading: &Reading<'_>) -> Result<UploadBundle, Vec<Issue>> {
    let most = reading.max_entries;
    // The envelope first: what an entry means depends on those that follow it.
    let envelope = json::parse_entries(body, json::UPLOAD_VALUES, &mut |entry, content| {
        if entry < most { Ok(without_resource(content)) } else { Err(FaultKind::TooManyEntries) }
    });
    let envelope = envelope.map_err(|fault| match fault.kind {
        FaultKind::TooManyEntries => vec![too_many_entries(most)],
        _ => vec![fault.issue()],
    })?;
    let mut arriving = Arriving::new(&envelope, reading)?;
    let read = json::parse_entries(body, json::UPLOAD_VALUES, &mut |entry, content| {
        arriving.entry(entry, &content);
        Ok(Value::Null)
    });
    read.map_err(|fault| vec![fault.issue()])?;
    Ok(arriving.end())
}

/// An entry with as much of its resource as the envelope is judged by.
fn without_resource(mut entry: Value) -> Value {
    if let Some(Value::Object(members)) = entry.get_mut("resource") {
        members.retain(|name, _| matches!(name.as_str(), "resourceType" | "meta"));
        if let Some(Value::Object(meta)) = members.get_mut("meta") {
            meta.retain(|name, value| name == "versionId" && value.is_string());
        }
    }
    entry
}

/// A Bundle whose envelope was read, and whose entries come one after the other.
struct Arriving<'a> {
    reading: &'a Reading<'a>,
    full_urls: FullUrls,
    /// What the envelope's rules say of each entry.
    faults: Vec<Vec<Issue>>,
    records: Records,
    bundle: UploadBundle,
}

impl<'a> Arriving<'a> {
    /// Of a Bundle whose entries may lack their resources' elements.
    fn new(body: &Value, reading: &'a Reading<'a>) -> Result<Self, Vec<Issue>> {
        let entries = entries(body, reading)?;
        let mut issues = Vec::new();
        let mut faults: Vec<Vec<Issue>> = vec![Vec::new(); entries.len()];
        for issue in reading.validators.validate_envelope(body) {
            let entry = issue.expression.first().and_then(|at| entry_of(at));
            // An entry without a request can't be answered: that is a fault of the envelope.
            let entry = entry.filter(|entry| request_of(entries, *entry).is_some());
            match entry.and_then(|entry| faults.get_mut(entry)) {
                Some(faults) => faults.push(issue),
                None => issues.push(issue),
            }
        }
        let mut tell = |issue: Issue| {
            if !issues.iter().any(|told| told.expression == issue.expression) {
                issues.push(issue);
            }
        };
        let kind = kind(body).map_err(&mut tell).ok();
        let file_number = file_number(body).map_err(&mut tell).ok();
        let (Some(kind), Some(file_number), true) = (kind, file_number, issues.is_empty()) else {
            return Err(issues);
        };
        let bundle = UploadBundle {
            kind,
            file_number,
            organization: None,
            records: Vec::new(),
            unplaced: Vec::new(),
            shapes: Vec::new(),
            digests: Vec::new(),
        };
        Ok(Self { reading, full_urls: full_urls(entries), faults, records: Records::default(), bundle })
    }

    fn entry(&mut self, entry: usize, content: &Value) {
        let request = content.get("request").unwrap_or(&Value::Null);
        let resource = content.get("resource");
        let is_delete = request.get("method").and_then(Value::as_str) == Some("DELETE");
        self.bundle.shapes.push(EntryShape { has_resource: resource.is_some(), is_delete });
        self.bundle.digests.push(json::digest(content));
        let faults = self.faults.get_mut(entry).map(std::mem::take).unwrap_or_default();
        let read = read_entry(request, resource, entry, self.reading, &self.full_urls);
        self.bundle.take(&mut self.records, request, entry, with_faults(read, faults));
    }

    fn end(self) -> UploadBundle {
        UploadBundle { records: self.records.into_list(), ..self.bundle }
    }
}

fn request_of(entries: &[Value], entry: usize) -> Option<&Value> {
    entries.get(entry)?.get("request").filter(|request| request.is_object())
}

/// Adds the faults of the entry's envelope to those of its content.
fn with_faults(read: Result<Read, Unusable>, faults: Vec<Issue>) -> Result<Read, Unusable> {
    match read {
        read if faults.is_empty() => read,
        Ok(Read::Part(number, _)) => Err((Some(number), faults)),
        Ok(_) => Err((None, faults)),
        Err((number, issues)) => Err((number, faults.into_iter().chain(issues).collect())),
    }
}

impl UploadBundle {
    fn take(&mut self, records: &mut Records, request: &Value, entry: usize, read: Result<Read, Unusable>) {
        let about_organization = request
            .get("url")
            .and_then(Value::as_str)
            .is_some_and(|url| url.trim_start_matches('/').starts_with("Organization"));
        match read {
            Ok(Read::Part(number, part)) => records.add(Some(number), entry, Ok(part)),
            Ok(Read::Unplaced(change)) => self.unplaced.push(change),
            Ok(Read::Organization(change)) if self.organization.is_none() => self.organization = Some(Ok(change)),
            Ok(Read::Organization(_)) => {
                let words = "Your authority's details are sent twice. Send them once.";
                let issues = vec![self.placed(rule("Organization", words), entry)];
                self.refuse_organization(entry, issues);
            }
            Err((number, issues)) => {
                let issues: Vec<Issue> = issues.into_iter().map(|issue| self.placed(issue, entry)).collect();
                if about_organization {
                    self.refuse_organization(entry, issues);
                } else {
                    records.add(number, entry, Err(issues));
                }
            }
        }
    }

    fn refuse_organization(&mut self, entry: usize, issues: Vec<Issue>) {
        let mut told = match self.organization.take() {
            Some(Ok(first)) => {
                let words = "Your authority's details are sent twice. Send them once.";
                vec![EntryIssue { entry: first.entry, issue: self.placed(rule("Organization", words), first.entry) }]
            }
            Some(Err(told)) => told,
            None => Vec::new(),
        };
        told.extend(of_entry(entry, issues));
        self.organization = Some(Err(told));
    }

    /// The issue with its place in the Bundle. In a batch even what isn't valid R4 refuses only a record, with its code.
    fn placed(&self, issue: Issue, entry: usize) -> Issue {
        let issue = match issue.expression.first() {
            Some(at) if at.starts_with("Bundle.") => issue,
            Some(_) => issue.within(&format!("Bundle.entry[{entry}].resource")),
            None => issue.at(format!("Bundle.entry[{entry}]")),
        };
        coded(self.kind, issue)
    }
}

/// In a batch whatever is wrong with an entry refuses its record, so it has a record code.
pub(super) fn coded(kind: BundleKind, issue: Issue) -> Issue {
    match (kind, issue.cpr) {
        (BundleKind::Batch, None) => issue.with_record_code(RecordCode::Cpr07),
        _ => issue,
    }
}

fn entries<'a>(body: &'a Value, reading: &Reading<'_>) -> Result<&'a [Value], Vec<Issue>> {
    if body.get("resourceType").and_then(Value::as_str) != Some("Bundle") {
        return Err(vec![not_r4(IssueCode::Structure, SpineCode::ValidationError, "Bundle", AN_UPLOAD_IS)]);
    }
    let entries = body.get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        let words = "The Bundle has no entries.";
        return Err(vec![not_r4(IssueCode::Required, SpineCode::MissingValue, "Bundle.entry", words)]);
    }
    if entries.len() > reading.max_entries {
        return Err(vec![too_many_entries(reading.max_entries)]);
    }
    Ok(entries)
}

fn too_many_entries(most: usize) -> Issue {
    let words = format!("The Bundle has more than {most} entries. Send it in parts.");
    not_r4(IssueCode::TooLong, SpineCode::InvalidValue, "Bundle.entry", &words)
}

const AN_UPLOAD_IS: &str = "An upload is a Bundle of type batch or transaction.";

/// The position in an expression such as `Bundle.entry[3].request.method`.
fn entry_of(expression: &str) -> Option<usize> {
    expression.strip_prefix("Bundle.entry[")?.split_once(']')?.0.parse().ok()
}

fn kind(envelope: &Value) -> Result<BundleKind, Issue> {
    match envelope.get("type").and_then(Value::as_str) {
        Some("batch") => Ok(BundleKind::Batch),
        Some("transaction") => Ok(BundleKind::Transaction),
        _ => Err(not_r4(IssueCode::Value, SpineCode::InvalidValue, "Bundle.type", AN_UPLOAD_IS)),
    }
}

fn file_number(envelope: &Value) -> Result<Option<i64>, Issue> {
    let Some(identifier) = envelope.get("identifier") else { return Ok(None) };
    if identifier.get("system").and_then(Value::as_str) != Some(system::UPLOAD_FILE) {
        return Ok(None);
    }
    let number = identifier.get("value").and_then(Value::as_str);
    let digits = number.filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(|| {
        let words = "The upload file number is a whole number.";
        not_r4(IssueCode::Value, SpineCode::InvalidValue, "Bundle.identifier.value", words)
    })
}

fn full_urls(entries: &[Value]) -> FullUrls {
    let number = |entry: &Value| {
        let full_url = entry.get("fullUrl")?.as_str()?;
        let url = entry.get("request")?.get("url")?.as_str()?;
        let id = url.strip_prefix('/').unwrap_or(url).strip_prefix("Patient/")?;
        Some((full_url.to_owned(), NhsNumber::parse(id).ok()?))
    };
    entries.iter().filter_map(number).collect()
}

fn read_entry(
    request: &Value,
    resource: Option<&Value>,
    entry: usize,
    reading: &Reading<'_>,
    full_urls: &FullUrls,
) -> Result<Read, Unusable> {
    let at_url = format!("Bundle.entry[{entry}].request.url");
    let read = read_request(request, entry).map_err(|issues| (child_of(request, resource, full_urls), issues))?;
    let needed = || {
        resource.ok_or_else(|| {
            let at = format!("Bundle.entry[{entry}].resource");
            vec![not_r4(IssueCode::Required, SpineCode::MissingValue, &at, "This entry needs its resource.")]
        })
    };
    match read {
        EntryRequest::PutPatient { id, precondition } => {
            let number = nhs_number(&id, &at_url).map_err(|issue| (None, vec![issue]))?;
            let child = needed().and_then(|resource| patient_entry(resource, number, precondition, entry, reading));
            child.map(|child| Read::Part(number, Part::Child(child))).map_err(|issues| (Some(number), issues))
        }
        EntryRequest::PutFlag(request) => {
            let resource = needed().map_err(|issues| (None, issues))?;
            let (number, plan) = flag_entry(resource, &request, entry, reading, full_urls)?;
            Ok(Read::Part(number, Part::Plan(plan)))
        }
        EntryRequest::DeleteFlag { id, precondition } => Ok(Read::Unplaced(delete_by_id(id, precondition, entry))),
        EntryRequest::DeleteFlagBy { criteria, precondition } => delete_by_criteria(criteria, precondition, entry)
            .map(|(number, plan)| Read::Part(number, Part::Plan(plan)))
            .map_err(|issues| (None, issues.into_iter().map(|issue| issue.at(at_url.clone())).collect())),
        EntryRequest::PutOrganization { id, precondition } => needed()
            .and_then(|resource| organization_entry(resource, &id, precondition, entry, reading))
            .map(Read::Organization)
            .map_err(|issues| (None, issues)),
    }
}

/// Which child an entry that can't be used is about: it still belongs to that child's record.
fn child_of(request: &Value, resource: Option<&Value>, full_urls: &FullUrls) -> Option<NhsNumber> {
    let url = request.get("url").and_then(Value::as_str).unwrap_or_default();
    let path = url.split('?').next().unwrap_or_default();
    match path.strip_prefix('/').unwrap_or(path).strip_prefix("Patient/") {
        Some(id) => NhsNumber::parse(id).ok(),
        None => resource.and_then(|flag| subject_number(flag, full_urls).ok()),
    }
}
