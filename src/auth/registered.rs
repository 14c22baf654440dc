//! The clients and organisations that are registered in the store.

use std::{cell::RefCell, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    caller::{AuthFault, Directory, DirectoryFault},
    token::Tokens,
};
use crate::{
    cpis::types::{
        OdsCode, Organization,
        caller::{Caller, Client},
    },
    store::{Conn, Store, StoreError, organization},
};

/// Who calls, by the clients and organisations in the store.
///
/// # Errors
/// [`AuthFault`]: 401, 403 or 503.
pub async fn authenticate(
    tokens: Arc<Tokens>,
    store: &Store,
    authorization_header: Option<String>,
    now: DateTime<Utc>,
) -> Result<Caller, AuthFault> {
    let answer = store.read(move |conn| {
        let registered = Registered(RefCell::new(conn));
        Ok(tokens.authenticate(authorization_header.as_deref(), &registered, now))
    });
    answer.await.map_err(|error| AuthFault::Directory(DirectoryFault::new(error)))?
}

struct Registered<'a>(RefCell<&'a mut Conn>);

impl Registered<'_> {
    fn ask<T>(&self, query: impl FnOnce(&mut Conn) -> Result<T, StoreError>) -> Result<T, DirectoryFault> {
        query(&mut self.0.borrow_mut()).map_err(DirectoryFault::new)
    }
}

impl Directory for Registered<'_> {
    fn client(&self, client_id: &str) -> Result<Option<Client>, DirectoryFault> {
        self.ask(|conn| organization::find_client(conn, client_id))
    }

    fn organization(&self, ods: &OdsCode) -> Result<Option<Organization>, DirectoryFault> {
        self.ask(|conn| organization::find(conn, ods))
    }
}
