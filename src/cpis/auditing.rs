//! Who reads what was recorded: auditors the security audit, an authority the accesses listed for it.

use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    notifications::may_be_told,
    types::{
        NhsNumber, Organization,
        access::{Access, SequenceRange},
        audit::{AuditRow, AuditSearch},
    },
};
use crate::store::{self, Conn, StoreError};

impl Gateway {
    /// The committed heads of the audit's chains at this moment: the marks that every page of one search is asked with,
    /// so that later records never shift a page.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn audit_heads(&self) -> Result<Vec<(i64, i64)>, Error> {
        Ok(self.store.read(store::audit::committed_heads).await?)
    }

    /// At most `limit` rows of the security audit.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn security_audit(&self, search: AuditSearch, limit: i64) -> Result<Vec<AuditRow>, Error> {
        Ok(self.store.read(move |conn| store::audit::search(conn, &search, limit)).await?)
    }

    /// How many rows the search has over all its pages.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn count_security_audit(&self, search: AuditSearch) -> Result<i64, Error> {
        Ok(self.store.read(move |conn| store::audit::count(conn, &search)).await?)
    }

    /// A record of the security audit by its key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn security_event(&self, month: i32, id: i64) -> Result<Option<AuditRow>, Error> {
        Ok(self.store.read(move |conn| store::audit::find(conn, month, id)).await?)
    }

    /// At most `limit` of the accesses of a child that are listed for an authority.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn listed_accesses(
        &self,
        authority: &Organization,
        number: NhsNumber,
        within: SequenceRange,
        limit: i64,
    ) -> Result<Vec<Access>, Error> {
        let authority = authority.id;
        let read = self.store.read(move |conn| {
            let persons = told_of(conn, authority, &number)?;
            store::access::listed_for(conn, authority, &persons, within, limit)
        });
        Ok(read.await?)
    }

    /// How many accesses of a child are listed for an authority.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn count_listed_accesses(&self, authority: &Organization, number: NhsNumber) -> Result<i64, Error> {
        let authority = authority.id;
        let read = self.store.read(move |conn| {
            let persons = told_of(conn, authority, &number)?;
            store::access::count_listed_for(conn, authority, &persons)
        });
        Ok(read.await?)
    }

    /// An access by its id; for an authority only one that is listed for it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn access(&self, id: Uuid, listed_for: Option<&Organization>) -> Result<Option<Access>, Error> {
        let authority = listed_for.map(|authority| authority.id);
        let read = self.store.read(move |conn| {
            let Some(access) = store::access::find(conn, id)? else { return Ok(None) };
            let seen = match authority {
                None => true,
                Some(authority) => {
                    store::access::is_listed_for(conn, access.sequence, authority)?
                        && may_be_told(conn, authority, &access.nhs_number)?
                }
            };
            Ok(Some(access).filter(|_| seen))
        });
        Ok(read.await?)
    }
}

/// The persons of a child of whose accesses an authority is told, by this way no more than by a notification.
fn told_of(conn: &mut Conn, authority: i64, number: &NhsNumber) -> Result<Vec<i64>, StoreError> {
    if !may_be_told(conn, authority, number)? {
        return Ok(Vec::new());
    }
    Ok(store::person::child(conn, number)?.map(|child| child.persons).unwrap_or_default())
}
