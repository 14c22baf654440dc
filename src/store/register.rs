//! The local register of demographics (`pds.mode = "register"`).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{Conn, StoreError, connection::on, schema::register_entry};
use crate::cpis::types::{
    NhsNumber,
    child::{Demographics, NumberStatus, RegisterEntry, Trace, Traced},
};

type Row = (String, String, String, NaiveDate, String, Option<String>, bool);

/// What the register says of a number.
///
/// # Errors
/// [`StoreError::Corrupt`] when an entry is not valid.
pub fn get(conn: &mut Conn, number: &NhsNumber) -> Result<Option<RegisterEntry>, StoreError> {
    let row: Option<Row> = register_entry::table.find(number.as_str()).first(conn).optional()?;
    row.map(entry_of).transpose()
}

/// What the register says of those of these numbers that it knows.
///
/// # Errors
/// [`StoreError::Corrupt`] when an entry is not valid.
pub fn get_all(conn: &mut Conn, numbers: &[NhsNumber]) -> Result<Vec<RegisterEntry>, StoreError> {
    let numbers: Vec<&str> = numbers.iter().map(NhsNumber::as_str).collect();
    let rows: Vec<Row> = register_entry::table.filter(register_entry::nhs_number.eq_any(numbers)).load(conn)?;
    rows.into_iter().map(entry_of).collect()
}

fn entry_of(
    (number, family, given, birth_date, status, replaced_by, deceased): Row,
) -> Result<RegisterEntry, StoreError> {
    let corrupt = |column| move |_| StoreError::Corrupt(column);
    let given = given.split(' ').map(str::to_owned).collect();
    Ok(RegisterEntry {
        nhs_number: NhsNumber::parse(&number).map_err(corrupt("register_entry.nhs_number"))?,
        demographics: Demographics { family, given, birth_date },
        status: NumberStatus::from_code(&status).ok_or(StoreError::Corrupt("register_entry.status"))?,
        replaced_by: replaced_by
            .map(|number| NhsNumber::parse(&number).map_err(corrupt("register_entry.replaced_by")))
            .transpose()?,
        deceased,
    })
}

/// What tracing a number finds.
///
/// # Errors
/// [`StoreError::Corrupt`] when an entry is not valid.
pub fn trace(conn: &mut Conn, number: &NhsNumber) -> Result<Trace, StoreError> {
    let Some(entry) = get(conn, number)? else { return Ok(Trace::Unknown) };
    Ok(match entry.status {
        NumberStatus::Current => Trace::Found(Traced {
            family: Some(entry.demographics.family),
            given: entry.demographics.given,
            birth_date: Some(entry.demographics.birth_date),
            deceased: entry.deceased,
        }),
        NumberStatus::Superseded => {
            Trace::Superseded(entry.replaced_by.ok_or(StoreError::Corrupt("register_entry.replaced_by"))?)
        }
        NumberStatus::Restricted => Trace::Restricted,
        NumberStatus::Invalid | NumberStatus::Retired => Trace::Invalid,
    })
}

/// Parts a number from those that replaced it and that it replaced: it was retired (design 9).
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn part(conn: &mut Conn, number: &NhsNumber) -> Result<(), StoreError> {
    let parted = |status: NumberStatus| {
        (register_entry::status.eq(status.code()), register_entry::replaced_by.eq(None::<String>))
    };
    let its_own = register_entry::table.find(number.as_str()).filter(register_entry::replaced_by.is_not_null());
    diesel::update(its_own).set(parted(NumberStatus::Retired)).execute(conn)?;
    let replaced = register_entry::table.filter(register_entry::replaced_by.eq(number.as_str()));
    diesel::update(replaced).set(parted(NumberStatus::Invalid)).execute(conn)?;
    Ok(())
}

/// Adds a person to the register.
///
/// # Errors
/// [`StoreError::Race`] when the number is there already.
pub fn add(
    conn: &mut Conn,
    number: &NhsNumber,
    demographics: &Demographics,
    status: NumberStatus,
    replaced_by: Option<&NhsNumber>,
) -> Result<(), StoreError> {
    diesel::insert_into(register_entry::table)
        .values((
            register_entry::nhs_number.eq(number.as_str()),
            register_entry::family.eq(&demographics.family),
            register_entry::given.eq(demographics.given.join(" ")),
            register_entry::birth_date.eq(demographics.birth_date),
            register_entry::status.eq(status.code()),
            register_entry::replaced_by.eq(replaced_by.map(NhsNumber::as_str)),
        ))
        .execute(conn)?;
    Ok(())
}

/// Writes an entry, over the one of the same number if there is one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub fn put(conn: &mut Conn, entry: &RegisterEntry) -> Result<(), StoreError> {
    let values = (
        register_entry::family.eq(&entry.demographics.family),
        register_entry::given.eq(entry.demographics.given.join(" ")),
        register_entry::birth_date.eq(entry.demographics.birth_date),
        register_entry::status.eq(entry.status.code()),
        register_entry::replaced_by.eq(entry.replaced_by.as_ref().map(NhsNumber::as_str)),
        register_entry::deceased.eq(entry.deceased),
    );
    let number = register_entry::nhs_number.eq(entry.nhs_number.as_str());
    on!(conn, c => diesel::insert_into(register_entry::table)
        .values((number, values.clone()))
        .on_conflict(register_entry::nhs_number)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}
