//! Below HTTP: callers of the use cases, the writer held in the middle of a transaction, the audit verified, and the
//! database opened by another hand.

use std::sync::mpsc;

use actix_web::rt::task::JoinHandle;
use chrono::{DateTime, Utc};
use cpis_gateway::{
    app,
    cpis::{
        look_up::{LookUp, Subject},
        types::{
            NhsNumber,
            access::AccessKind,
            audit::{Interaction, RequestEvent},
            caller::{Author, Caller, RequestContext, Role, User, VIEW_FLAG},
            child::NumberStatus,
        },
        verify::{self, Report},
    },
    store::{self, StoreError},
};

use super::{TestApp, ods};

/// A transaction of the writer that stays open until it is released.
pub struct Held {
    release: mpsc::Sender<()>,
    write: JoinHandle<Result<(), StoreError>>,
}

impl Held {
    /// Lets the transaction go on and waits for its commit.
    pub async fn release(self) -> Result<(), StoreError> {
        drop(self.release);
        self.write.await.expect("the change ends")
    }
}

impl TestApp {
    /// Keeps the writer within a transaction that has appended `event`, if any; what is written meanwhile waits.
    pub async fn hold_writer(&self, event: Option<(DateTime<Utc>, RequestEvent)>) -> Held {
        let (entered, running) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let (store, mut entered) = (self.app.gateway.store.clone(), Some(entered));
        let write = actix_web::rt::spawn(async move {
            let change = store.write(Vec::new(), move |tx| {
                if let Some((at, event)) = &event {
                    tx.append_audit(*at, event.clone())?;
                }
                if let Some(entered) = entered.take() {
                    entered.send(()).map_err(|()| StoreError::Busy)?;
                    // The sender is dropped to release: that is an error here, and meant.
                    let _released = released.recv();
                }
                Ok(())
            });
            change.await
        });
        running.await.expect("the writer runs the change");
        Held { release, write }
    }

    /// The whole audit verified with the public key of this gateway's checkpoints.
    pub fn verify(&self) -> Report {
        let key = app::checkpoint_public_key(self.settings()).expect("a public key");
        let signature =
            |id: &str, content: &[u8], signature: &[u8]| id == key.key_id() && key.verify(content, signature);
        verify::verify(&self.app.gateway.store, &signature, &mut |_| {}).expect("the audit is read")
    }

    /// Stores that a number was superseded, as the tracing of stored numbers would.
    pub async fn supersede(&self, old: NhsNumber, replacing: NhsNumber) -> Result<(), StoreError> {
        let at_ms = self.clock.now().timestamp_millis();
        let change = self.app.gateway.store.write(vec![old, replacing], move |tx| {
            let old = store::person::find_or_create(tx.conn, &old)?;
            let replacing = store::person::find_or_create(tx.conn, &replacing)?;
            store::person::supersede(tx.conn, old.id, replacing.id, at_ms)
        });
        change.await
    }

    /// Stores what has become of a number.
    pub async fn set_status(&self, number: NhsNumber, status: NumberStatus) {
        let change = self.app.gateway.store.write(vec![number], move |tx| {
            let person = store::person::find_or_create(tx.conn, &number)?;
            store::person::set_status(tx.conn, person.id, status)
        });
        change.await.expect("the status is stored");
    }

    /// A caller of the use cases, of an organisation of the cast.
    pub async fn caller_of(&self, role: Role, organization: &str, author: Author) -> Caller {
        let code = ods(organization);
        let organization = self.read(move |conn| store::organization::find(conn, &code)).await;
        let organization = organization.expect("an organisation of the cast");
        Caller {
            client_id: format!("sandbox-{}-{}", role.code(), organization.ods.as_str().to_lowercase()),
            client_name: organization.name.clone(),
            role,
            organization,
            author,
            activities: vec![VIEW_FLAG.to_owned()],
            token_tail: String::new(),
        }
    }

    /// A person at an organisation as the use cases get them.
    pub async fn person_at(&self, organization: &str, user: &str) -> Caller {
        let user = User {
            sds_user_id: user.to_owned(),
            role_profile_id: None,
            name: format!("SAMPLE, {user}"),
            job_role_code: None,
            job_role_name: None,
        };
        self.caller_of(Role::Clinical, organization, Author::Person(user)).await
    }

    /// The context of a request that came now.
    pub fn context(&self, line: &str) -> RequestContext {
        RequestContext::internal(line, self.clock.now())
    }

    /// A search for a child by its number, as the handlers ask it of the use case.
    pub fn look_up_of(&self, caller: &Caller, number: NhsNumber, kind: AccessKind) -> LookUp {
        LookUp {
            subject: Subject::Number(number),
            kind,
            interaction: Interaction::SearchType,
            entity: None,
            absent_is_not_found: false,
            caller: caller.clone(),
            context: self.context("GET /CareTeam"),
        }
    }
}
