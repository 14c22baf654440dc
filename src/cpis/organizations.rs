//! Organisations as every caller may see them: public facts.

use super::{
    gateway::{Error, Gateway},
    types::{OdsCode, Organization, organization::OrganizationSearch},
};
use crate::store;

impl Gateway {
    /// An organisation by its code.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn organization(&self, ods: OdsCode) -> Result<Option<Organization>, Error> {
        Ok(self.store.read(move |conn| store::organization::find(conn, &ods)).await?)
    }

    /// A page of what a search finds, and how many there are in all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn organizations(
        &self,
        search: OrganizationSearch,
        limit: i64,
    ) -> Result<(Vec<Organization>, i64), Error> {
        let read = self.store.read(move |conn| {
            Ok((store::organization::search(conn, &search, limit)?, store::organization::count(conn, &search)?))
        });
        Ok(read.await?)
    }
}
