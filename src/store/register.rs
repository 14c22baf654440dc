//! The local register of demographics (`pds.mode = "register"`).

use chrono::NaiveDate;
use diesel::prelude::*;

use super::{Conn, StoreError, schema::register_entry};
use crate::cpis::types::{
    NhsNumber,
    child::{Demographics, NumberStatus, Trace},
};

/// What the register knows of a number.
///
/// # Errors
/// [`StoreError::Corrupt`] when an entry is not valid.
pub fn trace(conn: &mut Conn, number: &NhsNumber) -> Result<Trace, StoreError> {
    type Row = (String, String, NaiveDate, String, Option<String>);
    let row: Option<Row> = register_entry::table
        .find(number.as_str())
        .select((
            register_entry::family,
            register_entry::given,
            register_entry::birth_date,
            register_entry::status,
            register_entry::replaced_by,
        ))
        .first(conn)
        .optional()?;
    let Some((family, given, birth_date, status, replaced_by)) = row else { return Ok(Trace::Unknown) };
    Ok(match NumberStatus::from_code(&status) {
        Some(NumberStatus::Current) => {
            Trace::Found(Demographics { family, given: given.split(' ').map(str::to_owned).collect(), birth_date })
        }
        Some(NumberStatus::Superseded) => {
            let number = replaced_by.as_deref().map(NhsNumber::parse);
            Trace::Superseded(number.and_then(Result::ok).ok_or(StoreError::Corrupt("register_entry.replaced_by"))?)
        }
        Some(NumberStatus::Restricted) => Trace::Restricted,
        Some(NumberStatus::Invalid | NumberStatus::Retired) => Trace::Invalid,
        None => return Err(StoreError::Corrupt("register_entry.status")),
    })
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
