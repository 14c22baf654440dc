//! Who reads what was recorded: auditors the security audit, an authority the accesses listed for it.

use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    types::{
        NhsNumber, Organization,
        access::Access,
        audit::{AuditRow, AuditSearch},
    },
};
use crate::store;

/// What a page of the security audit is to hold.
#[derive(Clone, Copy, Debug)]
pub struct AuditPageAsked {
    /// Most rows; 0 for the total alone.
    pub limit: i64,
    /// Count the rows of all pages.
    pub counted: bool,
}

/// A page of the security audit, newest first.
#[derive(Debug)]
pub struct AuditPage {
    pub rows: Vec<AuditRow>,
    /// Rows of all pages, if they were counted.
    pub total: Option<i64>,
    /// The marks that every further page must be asked with.
    pub heads: Vec<(i64, i64)>,
}

impl Gateway {
    /// A page of the security audit. Without marks in `search` it is the first: the committed heads of this moment
    /// become the marks, so that later records never shift a page.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn security_audit(&self, search: AuditSearch, asked: AuditPageAsked) -> Result<AuditPage, Error> {
        let read = self.store.read(move |conn| {
            let mut search = search.clone();
            if search.heads.is_empty() {
                search.heads = store::audit::committed_heads(conn)?;
            }
            let rows = if asked.limit == 0 { Vec::new() } else { store::audit::search(conn, &search, asked.limit)? };
            let total = if asked.counted { Some(store::audit::count(conn, &search)?) } else { None };
            Ok(AuditPage { rows, total, heads: search.heads })
        });
        Ok(read.await?)
    }

    /// A record of the security audit by its key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn security_event(&self, month: i32, id: i64) -> Result<Option<AuditRow>, Error> {
        Ok(self.store.read(move |conn| store::audit::find(conn, month, id)).await?)
    }

    /// A page of the accesses of a child that are listed for an authority, newest first, and how many there are in all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn listed_accesses(
        &self,
        authority: &Organization,
        number: NhsNumber,
        below: i64,
        limit: i64,
    ) -> Result<(Vec<Access>, i64), Error> {
        let authority = authority.id;
        let read = self.store.read(move |conn| {
            let persons = store::person::child(conn, &number)?.map(|child| child.persons).unwrap_or_default();
            let page = store::access::listed_for(conn, authority, &persons, below, limit)?;
            Ok((page, store::access::count_listed_for(conn, authority, &persons)?))
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
                Some(authority) => store::access::is_listed_for(conn, access.sequence, authority)?,
            };
            Ok(Some(access).filter(|_| seen))
        });
        Ok(read.await?)
    }
}
