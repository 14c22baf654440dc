//! The statements that a gateway sends to its database, so that a test can say that two requests cost the same work. Times
//! say less: they vary.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, Once},
};

use cpis_gateway::store::Location;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::TestApp;

/// By the address of the database; only what is listened to is kept.
static HEARD: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);
static LISTENING: Once = Once::new();

/// Of one connection.
#[derive(Default)]
struct Listener(String);

impl Instrumentation for Listener {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => url.clone_into(&mut self.0),
            InstrumentationEvent::StartQuery { query, .. } => {
                let statement = query.to_string();
                // How a connection is opened and held, which is nobody's question.
                if ["set synchronous_commit", "pragma ", "select 1"].iter().any(|own| statement.starts_with(own)) {
                    return;
                }
                if let Some(heard) = HEARD.lock().expect("nobody panics with it").get_mut(&self.0) {
                    heard.push(statement.split(" -- binds").next().unwrap_or_default().to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Makes connections that are opened from now on tell their statements. Called before the gateway is started.
pub fn listen() {
    LISTENING.call_once(|| {
        set_default_instrumentation(|| Some(Box::new(Listener::default()))).expect("connections are listened to");
    });
}

impl TestApp {
    /// What `asked` comes to, and the statements that it took, in their order and without what was bound. Nothing else may
    /// be asked of this gateway meanwhile.
    pub async fn statements_of<T>(&self, asked: impl Future<Output = T>) -> (T, Vec<String>) {
        let (Location::Sqlite(address) | Location::Postgres(address)) = self.app.gateway.store.location().clone();
        HEARD.lock().expect("nobody panics with it").insert(address.clone(), Vec::new());
        let answer = asked.await;
        let heard = HEARD.lock().expect("nobody panics with it").remove(&address).unwrap_or_default();
        assert!(!heard.is_empty(), "listen before the gateway is started");
        (answer, heard)
    }
}
