//! Organisations as every caller may see them: public facts.

use super::{
    gateway::{Error, Gateway},
    types::{OdsCode, Organization, organization::OrganizationSearch, page::Place},
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

    /// A page of what a search narrows down to, by name; each with its place in that order.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn organizations(
        &self,
        search: OrganizationSearch,
        place: Option<Place<(String, i64)>>,
        descending: bool,
        limit: i64,
    ) -> Result<Vec<(String, Organization)>, Error> {
        let read =
            self.store.read(move |conn| store::organization::search(conn, &search, place.as_ref(), descending, limit));
        Ok(read.await?)
    }
}
