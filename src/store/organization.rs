//! Organisations and the clients registered for them.

use diesel::{prelude::*, sql_types::Bool};

use super::{
    Conn, StoreError,
    history::{Span, histories, walk},
    schema::{client, organization, organization_version as version},
};
use crate::{
    clock::from_millis,
    cpis::types::{
        OdsCode, Organization, Phone,
        caller::{Client, Role},
        history::{HistoryAsked, HistoryPage, Recorded},
        organization::{CareSetting, NamePart, OrganizationKind, OrganizationSearch, searchable},
        page::Place,
        upload::OrganizationChange,
    },
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = organization)]
pub(super) struct OrganizationRow {
    id: i64,
    ods: String,
    name: String,
    kind: String,
    care_setting: Option<String>,
    sensitive: bool,
    office_phone: Option<String>,
    duty_phone: Option<String>,
    part_of: Option<String>,
    active: bool,
    version: i64,
    updated_ms: i64,
}

impl TryFrom<OrganizationRow> for Organization {
    type Error = StoreError;

    fn try_from(row: OrganizationRow) -> Result<Self, StoreError> {
        let corrupt = |column| move |_| StoreError::Corrupt(column);
        let ods = |code: String| OdsCode::parse(&code).map_err(|_| StoreError::Corrupt("organization.ods"));
        let phone = |text: String| Phone::parse(&text).map_err(corrupt("organization.phone"));
        Ok(Self {
            id: row.id,
            ods: ods(row.ods)?,
            name: row.name,
            kind: OrganizationKind::from_code(&row.kind).ok_or(StoreError::Corrupt("organization.kind"))?,
            care_setting: row
                .care_setting
                .map(|s| CareSetting::from_code(&s).ok_or(StoreError::Corrupt("organization.care_setting")))
                .transpose()?,
            sensitive: row.sensitive,
            office_phone: row.office_phone.map(phone).transpose()?,
            duty_phone: row.duty_phone.map(phone).transpose()?,
            part_of: row.part_of.map(ods).transpose()?,
            active: row.active,
            version: row.version,
            updated: from_millis(row.updated_ms),
        })
    }
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn find(conn: &mut Conn, ods: &OdsCode) -> Result<Option<Organization>, StoreError> {
    let row = organization::table
        .filter(organization::ods.eq(ods.as_str()))
        .select(OrganizationRow::as_select())
        .first::<OrganizationRow>(conn)
        .optional()?;
    row.map(Organization::try_from).transpose()
}

/// # Errors
/// [`StoreError::Corrupt`] when there is none.
pub fn get(conn: &mut Conn, id: i64) -> Result<Organization, StoreError> {
    organization::table.find(id).select(OrganizationRow::as_select()).first::<OrganizationRow>(conn)?.try_into()
}

/// The organisations of these keys, in any order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get_all(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Organization>, StoreError> {
    let rows: Vec<OrganizationRow> = organization::table
        .filter(organization::id.eq_any(ids.to_vec()))
        .select(OrganizationRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Organization::try_from).collect()
}

/// [`get_all`], each with when a change of it was last applied (milliseconds).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn get_all_confirmed(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(Organization, Option<i64>)>, StoreError> {
    let rows: Vec<(OrganizationRow, Option<i64>)> = organization::table
        .filter(organization::id.eq_any(ids.to_vec()))
        .select((OrganizationRow::as_select(), organization::confirmed_ms))
        .load(conn)?;
    rows.into_iter().map(|(row, confirmed_ms)| Ok((row.try_into()?, confirmed_ms))).collect()
}

/// An authority from which nothing has come for some time.
#[derive(Clone, Debug)]
pub struct Silent {
    pub id: i64,
    pub ods: OdsCode,
    pub name: String,
    /// When a change of it was last applied; milliseconds.
    pub confirmed_ms: i64,
    /// When an alert was last raised.
    pub alert_ms: Option<i64>,
}

/// At most `limit` active authorities that have sent something, the last before or at `before_ms`; the longest silent first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn silent(conn: &mut Conn, before_ms: i64, limit: i64) -> Result<Vec<Silent>, StoreError> {
    type Row = (i64, String, String, Option<i64>, Option<i64>);
    let rows: Vec<Row> = organization::table
        .filter(organization::kind.eq(OrganizationKind::LocalAuthority.code()).and(organization::active.eq(true)))
        .filter(organization::confirmed_ms.le(before_ms))
        .order((organization::confirmed_ms, organization::id))
        .limit(limit)
        .select((
            organization::id,
            organization::ods,
            organization::name,
            organization::confirmed_ms,
            organization::silent_alert_ms,
        ))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, ods, name, confirmed_ms, alert_ms)| {
            let ods = OdsCode::parse(&ods).map_err(|_| StoreError::Corrupt("organization.ods"))?;
            Ok(Silent { id, ods, name, confirmed_ms: confirmed_ms.unwrap_or_default(), alert_ms })
        })
        .collect()
}

/// Counts every authority that has sent something as heard from at this moment: for a sandbox whose past was made up.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn hear_from_all(conn: &mut Conn, now_ms: i64) -> Result<(), StoreError> {
    diesel::update(organization::table.filter(organization::confirmed_ms.is_not_null()))
        .set(organization::confirmed_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}

/// Keeps when alerts were raised.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn mark_alerted(conn: &mut Conn, ids: &[i64], now_ms: i64) -> Result<(), StoreError> {
    diesel::update(organization::table.filter(organization::id.eq_any(ids.to_vec())))
        .set(organization::silent_alert_ms.eq(now_ms))
        .execute(conn)?;
    Ok(())
}

type Backend = <Conn as diesel::Connection>::Backend;
type Condition<'a> = Box<dyn BoxableExpression<organization::table, Backend, SqlType = Bool> + 'a>;

macro_rules! matching {
    ($search:expr) => {{
        let search: &OrganizationSearch = $search;
        let mut query = organization::table.into_boxed();
        if let Some(codes) = &search.ods {
            let codes: Vec<String> = codes.iter().map(|ods| ods.as_str().to_owned()).collect();
            query = query.filter(organization::ods.eq_any(codes));
        }
        if let Some(parts) = &search.name {
            let mut any: Condition<'_> = Box::new(organization::id.lt(0));
            for part in parts {
                any = Box::new(any.or(organization::name_search.like(pattern(part)).escape('\\')));
            }
            query = query.filter(any);
        }
        if let Some(active) = search.active {
            query = query.filter(organization::active.eq(active));
        }
        query
    }};
}

fn pattern(part: &NamePart) -> String {
    let (text, before) = match part {
        NamePart::Beginning(text) => (text, ""),
        NamePart::Anywhere(text) => (text, "%"),
    };
    format!("{before}{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// At most `limit` organisations, the nearest to the place first: by name (as searches compare it), then by key. With
/// `descending` the order is turned round, and what comes after with it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn search(
    conn: &mut Conn,
    search: &OrganizationSearch,
    place: Option<&Place<(String, i64)>>,
    descending: bool,
    limit: i64,
) -> Result<Vec<(String, Organization)>, StoreError> {
    let mut query = matching!(search).limit(limit);
    let upwards = matches!(place, Some(Place::Before(_))) == descending;
    if let Some(((name, id), _)) = place.map(Place::key) {
        let (name, id) = (name.clone(), *id);
        let same = organization::name_search.eq(name.clone());
        query = if upwards {
            query.filter(organization::name_search.gt(name).or(same.and(organization::id.gt(id))))
        } else {
            query.filter(organization::name_search.lt(name).or(same.and(organization::id.lt(id))))
        };
    }
    query = if upwards {
        query.order((organization::name_search.asc(), organization::id.asc()))
    } else {
        query.order((organization::name_search.desc(), organization::id.desc()))
    };
    let rows: Vec<(String, OrganizationRow)> =
        query.select((organization::name_search, OrganizationRow::as_select())).load(conn)?;
    rows.into_iter().map(|(name, row)| Ok((name, row.try_into()?))).collect()
}

/// What is stored of a new organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrganization {
    pub ods: OdsCode,
    pub name: String,
    pub kind: OrganizationKind,
    pub care_setting: Option<CareSetting>,
    pub sensitive: bool,
    pub office_phone: Option<Phone>,
    pub duty_phone: Option<Phone>,
    pub part_of: Option<OdsCode>,
}

/// Stores a new organisation at version 1.
///
/// # Errors
/// [`StoreError::Race`] when the code exists.
pub fn create(conn: &mut Conn, new: &NewOrganization, now_ms: i64) -> Result<i64, StoreError> {
    let recorded_ms = recording_instant(conn, now_ms)?;
    let id = diesel::insert_into(organization::table)
        .values((
            organization::ods.eq(new.ods.as_str()),
            organization::name.eq(&new.name),
            organization::name_search.eq(searchable(&new.name)),
            organization::kind.eq(new.kind.code()),
            organization::care_setting.eq(new.care_setting.map(CareSetting::code)),
            organization::sensitive.eq(new.sensitive),
            organization::office_phone.eq(new.office_phone.as_ref().map(Phone::as_str)),
            organization::duty_phone.eq(new.duty_phone.as_ref().map(Phone::as_str)),
            organization::part_of.eq(new.part_of.as_ref().map(OdsCode::as_str)),
            organization::active.eq(true),
            organization::version.eq(1_i64),
            organization::updated_ms.eq(recorded_ms),
        ))
        .returning(organization::id)
        .get_result(conn)?;
    keep_version(conn, id)?;
    Ok(id)
}

/// Replaces what an authority says of itself; the version goes up by one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn update(conn: &mut Conn, id: i64, change: &OrganizationChange, now_ms: i64) -> Result<(), StoreError> {
    let recorded_ms = recording_instant(conn, now_ms)?;
    diesel::update(organization::table.find(id))
        .set((
            change.name.as_ref().map(|name| organization::name.eq(name)),
            change.name.as_ref().map(|name| organization::name_search.eq(searchable(name))),
            organization::office_phone.eq(change.office_phone.as_ref().map(Phone::as_str)),
            organization::duty_phone.eq(Some(change.duty_phone.as_str())),
            organization::version.eq(organization::version + 1),
            organization::updated_ms.eq(recorded_ms),
        ))
        .execute(conn)?;
    keep_version(conn, id)
}

/// Replaces an organisation; its code stays, and the version goes up by one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn replace(conn: &mut Conn, id: i64, new: &NewOrganization, active: bool, now_ms: i64) -> Result<(), StoreError> {
    let recorded_ms = recording_instant(conn, now_ms)?;
    diesel::update(organization::table.find(id))
        .set((
            organization::name.eq(&new.name),
            organization::name_search.eq(searchable(&new.name)),
            organization::care_setting.eq(new.care_setting.map(CareSetting::code)),
            organization::sensitive.eq(new.sensitive),
            organization::office_phone.eq(new.office_phone.as_ref().map(Phone::as_str)),
            organization::duty_phone.eq(new.duty_phone.as_ref().map(Phone::as_str)),
            organization::part_of.eq(new.part_of.as_ref().map(OdsCode::as_str)),
            organization::active.eq(active),
            organization::version.eq(organization::version + 1),
            organization::updated_ms.eq(recorded_ms),
        ))
        .execute(conn)?;
    keep_version(conn, id)
}

/// Closes an authority that another has taken over from, as a new version; it is shown as a part of its successor unless it
/// was a part of something.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn succeed(conn: &mut Conn, old: &Organization, new: &Organization, now_ms: i64) -> Result<(), StoreError> {
    let recorded_ms = recording_instant(conn, now_ms)?;
    let part_of = old.part_of.as_ref().unwrap_or(&new.ods).as_str();
    diesel::update(organization::table.find(old.id))
        .set((
            organization::active.eq(false),
            organization::succeeded_by.eq(new.ods.as_str()),
            organization::part_of.eq(part_of),
            organization::version.eq(organization::version + 1),
            organization::updated_ms.eq(recorded_ms),
        ))
        .execute(conn)?;
    keep_version(conn, old.id)
}

/// The key of PostgreSQL's advisory lock around the numbering of organisations' versions.
const VERSION_LOCK: i64 = 0x4350_4956;

/// When the next version of an organisation is recorded: now, or when the newest one of any was, if a clock has gone back
/// since. Holds back other changes of organisations until this one is committed, so that versions are seen in the order of
/// their numbers (on SQLite the one writer does).
fn recording_instant(conn: &mut Conn, now_ms: i64) -> Result<i64, StoreError> {
    if let Conn::Postgres(c) = conn {
        diesel::sql_query(format!("select pg_advisory_xact_lock({VERSION_LOCK})")).execute(c)?;
    }
    let newest = version::table.order(version::id.desc()).select(version::recorded_ms);
    Ok(newest.first::<i64>(conn).optional()?.map_or(now_ms, |newest| newest.max(now_ms)))
}

/// Keeps the organisation as it is now.
fn keep_version(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    let row: OrganizationRow = organization::table.find(id).select(OrganizationRow::as_select()).first(conn)?;
    diesel::insert_into(version::table)
        .values((
            version::organization_id.eq(row.id),
            version::version.eq(row.version),
            version::name.eq(row.name),
            version::kind.eq(row.kind),
            version::care_setting.eq(row.care_setting),
            version::sensitive.eq(row.sensitive),
            version::office_phone.eq(row.office_phone),
            version::duty_phone.eq(row.duty_phone),
            version::part_of.eq(row.part_of),
            version::active.eq(row.active),
            version::recorded_ms.eq(row.updated_ms),
        ))
        .execute(conn)?;
    Ok(())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = version)]
struct VersionRow {
    id: i64,
    organization_id: i64,
    version: i64,
    name: String,
    kind: String,
    care_setting: Option<String>,
    sensitive: bool,
    office_phone: Option<String>,
    duty_phone: Option<String>,
    part_of: Option<String>,
    active: bool,
    recorded_ms: i64,
}

histories! {
    version by organization_id, VersionRow => Organization,
    all: version::table,
    of_type: |_everybody: ()| version::table
}

/// A page of the versions of all organisations, numbered in the order of recording.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn history_of(conn: &mut Conn, asked: &HistoryAsked) -> Result<HistoryPage<Recorded<Organization>>, StoreError> {
    let page = of_type(conn, (), i64::MAX, asked)?;
    Ok(HistoryPage { versions: recorded(conn, page.versions, |row| row.id)?, next: page.next })
}

/// The rows as versions of their organisations; the code never changes.
fn recorded(
    conn: &mut Conn,
    rows: Vec<VersionRow>,
    number: impl Fn(&VersionRow) -> i64,
) -> Result<Vec<Recorded<Organization>>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.organization_id).collect();
    let codes = organization::table.filter(organization::id.eq_any(ids)).select((organization::id, organization::ods));
    let codes: Vec<(i64, String)> = codes.load(conn)?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let code = codes.iter().find(|(id, _)| *id == row.organization_id);
        let (_, ods) = code.ok_or(StoreError::Corrupt("organization_version.organization_id"))?;
        let (newest, number) = (!is_followed(conn, &row, i64::MAX)?, number(&row));
        let content = OrganizationRow {
            id: row.organization_id,
            ods: ods.clone(),
            name: row.name,
            kind: row.kind,
            care_setting: row.care_setting,
            sensitive: row.sensitive,
            office_phone: row.office_phone,
            duty_phone: row.duty_phone,
            part_of: row.part_of,
            active: row.active,
            version: row.version,
            updated_ms: row.recorded_ms,
        };
        versions.push(Recorded { number, newest, content: content.try_into()? });
    }
    Ok(versions)
}

/// Holds the authority for one change at a time (PostgreSQL; on SQLite the one writer does). Look-ups that put an access
/// into its outbox meanwhile don't wait: they only refer to the row's key.
///
/// # Errors
/// [`StoreError::Race`] on a deadlock.
pub fn lock(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    if let Conn::Postgres(c) = conn {
        let _locked: i64 = organization::table.find(id).select(organization::id).for_no_key_update().first(c)?;
    }
    Ok(())
}

/// # Errors
/// [`StoreError`] when the database fails.
pub fn find_client(conn: &mut Conn, client_id: &str) -> Result<Option<Client>, StoreError> {
    type Row = (String, String, String, String, bool, String, bool);
    let row: Option<Row> = client::table.find(client_id).first(conn).optional()?;
    row.map(|(client_id, name, role, ods, unattended, activities, disabled)| {
        Ok(Client {
            client_id,
            name,
            role: Role::from_code(&role).ok_or(StoreError::Corrupt("client.role"))?,
            organization: OdsCode::parse(&ods).map_err(|_| StoreError::Corrupt("client.organization_ods"))?,
            unattended,
            activities: activities.split_whitespace().map(str::to_owned).collect(),
            disabled,
        })
    })
    .transpose()
}

/// Registers a client.
///
/// # Errors
/// [`StoreError::Race`] when the id is taken.
pub fn create_client(conn: &mut Conn, new: &Client) -> Result<(), StoreError> {
    diesel::insert_into(client::table)
        .values((
            client::client_id.eq(&new.client_id),
            client::name.eq(&new.name),
            client::role.eq(new.role.code()),
            client::organization_ods.eq(new.organization.as_str()),
            client::unattended.eq(new.unattended),
            client::activities.eq(new.activities.join(" ")),
            client::disabled.eq(new.disabled),
        ))
        .execute(conn)?;
    Ok(())
}

/// Disables or enables a client; false when there is none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn disable_client(conn: &mut Conn, client_id: &str, disabled: bool) -> Result<bool, StoreError> {
    Ok(diesel::update(client::table.find(client_id)).set(client::disabled.eq(disabled)).execute(conn)? == 1)
}
