//! A gateway for one test: its own database, its own data directory, a clock that the test moves.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use actix_web::dev::ServerHandle;
use chrono::{DateTime, TimeZone, Utc};
use cpis_gateway::{
    app::App,
    auth::sandbox::{SandboxIssuer, TokenRequest},
    clock::Clock,
    config::{DatabaseUrl, Settings},
    cpis::types::{
        NhsNumber, OdsCode,
        caller::{User, VIEW_FLAG},
        child::{Demographics, NumberStatus},
    },
    http::sandbox::{
        Sandbox, TokenForm,
        cast::{self, Member},
    },
    store::{self, StoreError, Tx, organization::NewOrganization},
};
use tempfile::TempDir;

use super::{
    call::Request,
    fixtures::Child,
    postgres::{self, TestDatabase},
};

/// Which store a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// The sandbox's issuer key, made once for all tests: RSA keys take their time.
static ISSUER: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = TempDir::new().expect("a temporary directory");
    SandboxIssuer::open(dir.path()).expect("an issuer");
    dir
});

/// A gateway that answers over HTTP on loopback.
pub struct TestApp {
    pub app: App,
    pub clock: Clock,
    pub client: reqwest::Client,
    /// `http://127.0.0.1:port`.
    pub root: String,
    /// The FHIR base.
    pub base: String,
    tokens: Sandbox,
    server: RunningServer,
    settings: Settings,
    // Last: the app goes before its data.
    _data: Arc<TempDir>,
    _database: Option<Arc<TestDatabase>>,
}

/// Told to stop when its test ends.
struct RunningServer(ServerHandle);

impl Drop for RunningServer {
    fn drop(&mut self) {
        // Not awaited: the runtime of the test ends with it.
        drop(self.0.stop(false));
    }
}

impl TestApp {
    /// A gateway with the sandbox's organisations and clients and nobody on record.
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// [`TestApp::start`] with other settings.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Settings)) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let key = cpis_gateway::auth::sandbox::FILE;
        std::fs::copy(ISSUER.path().join(key), data.path().join(key)).expect("the issuer's key is copied");
        let database = (backend == Backend::Postgres).then(|| postgres::database(migrate));
        let mut settings = Settings {
            sandbox: true,
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: data.path().to_owned(),
            ..Settings::default()
        };
        settings.database.url = database.as_ref().map(|database| DatabaseUrl::new(database.url().to_owned()));
        change(&mut settings);
        let clock = Clock::standing_at(noon());
        let app = App::open(settings.clone(), clock.clone()).expect("the app opens");
        app.gateway.store.write(Vec::new(), register_cast).await.expect("the cast is registered");
        Self::serve(app, settings, clock, Arc::new(data), database.map(Arc::new))
    }

    fn serve(
        app: App,
        settings: Settings,
        clock: Clock,
        data: Arc<TempDir>,
        database: Option<Arc<TestDatabase>>,
    ) -> Self {
        let server = app.server().expect("the server starts");
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let root = format!("http://{}", app.address());
        Self {
            base: app.base_url().to_owned(),
            client: reqwest::Client::new(),
            tokens: Sandbox::open(data.path()).expect("the sandbox's tokens"),
            server: RunningServer(handle),
            root,
            app,
            clock,
            settings,
            _data: data,
            _database: database,
        }
    }

    /// Stops this gateway as a shutdown does and opens another on the same data.
    pub async fn restart(self) -> Self {
        let Self { app, clock, server, settings, _data, _database, .. } = self;
        server.0.stop(false).await;
        drop(server);
        app.gateway.store.close(None);
        drop(app);
        let app = App::open(settings.clone(), clock.clone()).expect("the app opens again");
        Self::serve(app, settings, clock, _data, _database)
    }

    /// Another process of the same service: on the same data, with its own writer, audit chain and address.
    pub fn beside(&self) -> Self {
        let app = App::open(self.settings.clone(), self.clock.clone()).expect("a second app opens");
        Self::serve(app, self.settings.clone(), self.clock.clone(), self._data.clone(), self._database.clone())
    }

    pub fn data_dir(&self) -> &Path {
        self._data.path()
    }

    /// The settings that it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A token as the sandbox issues it.
    pub fn token(&self, form: &TokenForm) -> String {
        let answer = self.tokens.token(form, 3600, self.clock.now());
        answer.expect("a token").access_token
    }

    /// A request without a token, below the FHIR base.
    pub fn anonymous(&self) -> Request<'_> {
        Request::new(self, None)
    }

    /// A clinician of the first hospital, with B0107.
    pub fn clinician(&self) -> Request<'_> {
        self.clinician_named("555000000101")
    }

    /// A clinician by SDS user id, of the sandbox's cast.
    pub fn clinician_named(&self, user: &str) -> Request<'_> {
        self.caller("role=clinical", &format!("user={user}"))
    }

    /// A clinician who is not of the cast: any SDS user id, with B0107 at one of its organisations.
    pub fn clinician_at(&self, organization: &str, user: &str) -> Request<'_> {
        let member = Member::find(organization).expect("an organisation of the cast");
        let person = User {
            sds_user_id: user.to_owned(),
            role_profile_id: None,
            name: format!("SAMPLE, {user}"),
            job_role_code: Some("R0620".to_owned()),
            job_role_name: Some("Staff Nurse".to_owned()),
        };
        let request = TokenRequest {
            client: &member.client().expect("a client"),
            user: Some(&person),
            responsible: None,
            organization: &ods(organization),
            activities: &[VIEW_FLAG.to_owned()],
            lifetime_seconds: 3600,
        };
        let issuer = SandboxIssuer::open(self.data_dir()).expect("the issuer");
        Request::new(self, Some(issuer.mint(&request, self.clock.now()).expect("a token")))
    }

    /// The sandbox's device.
    pub fn device(&self) -> Request<'_> {
        self.caller("role=clinical", &format!("user={}", cast::DEVICE.id))
    }

    /// A caller as the form of `POST /sandbox/token` has it, such as `role=clinical` and `activity=B0170`.
    pub fn caller(&self, role: &str, more: &str) -> Request<'_> {
        let form = TokenForm::parse(format!("{role}&{more}").as_bytes()).expect("a form");
        Request::new(self, Some(self.token(&form)))
    }

    /// A local authority: `Z9A`, `Z9B` or `Z9C`.
    pub fn authority(&self, ods: &str) -> Request<'_> {
        self.caller("role=local-authority", &format!("organization={ods}"))
    }

    pub fn auditor(&self) -> Request<'_> {
        self.caller("role=auditor", "")
    }

    pub fn administrator(&self) -> Request<'_> {
        self.caller("role=administrator", "")
    }

    /// Puts a person into the local register of demographics.
    pub async fn register(&self, child: &Child) {
        self.register_as(child, NumberStatus::Current, None).await;
    }

    /// [`TestApp::register`] in another state.
    pub async fn register_as(&self, child: &Child, status: NumberStatus, replaced_by: Option<NhsNumber>) {
        let (number, demographics) = (child.number, child.demographics());
        let write = self.app.gateway.store.write(Vec::new(), move |tx| {
            store::register::add(tx.conn, &number, &demographics, status, replaced_by.as_ref())
        });
        write.await.expect("the person is registered");
    }

    /// Registers a child and uploads plans for it by `POST Flag` after `PUT Patient`: (authority, SNOMED code, start, end).
    pub async fn on_record(&self, child: &Child, plans: &[(&str, &str, &str, Option<&str>)]) {
        self.register(child).await;
        self.on_record_again(child, plans).await;
    }

    /// [`TestApp::on_record`] of a child that the register knows already.
    pub async fn on_record_again(&self, child: &Child, plans: &[(&str, &str, &str, Option<&str>)]) {
        for (authority, code, start, end) in plans {
            let entries = vec![child.put_patient(), child.post_flag(authority, code, start, *end)];
            let reply = self.authority(authority).post("", &super::fixtures::bundle("batch", &entries)).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(reply.text.contains("CPF02"), "{}", reply.text);
        }
    }

    /// Rows of the security audit about a number, newest first, as an auditor gets them (this search comes after them).
    pub async fn audit_of(&self, number: &str) -> Vec<serde_json::Value> {
        let reply = self.auditor().get(&format!("/AuditEvent?patient={number}&_count=200")).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.resources("AuditEvent")
    }

    /// Reads through the store, for what HTTP doesn't show.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut store::Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.app.gateway.store.read(query).await.expect("the store is read")
    }
}

/// 2026-11-23 12:00 in London.
pub fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 23, 12, 0, 0).single().expect("an instant")
}

fn migrate(url: &str) {
    let location = store::Location::parse(url).expect("a URL");
    location.migrate(202_611).expect("the template is migrated");
}

fn register_cast(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let now_ms = noon().timestamp_millis();
    for member in cast::MEMBERS {
        let (office_phone, duty_phone) = member.parsed_phones().expect("valid phones");
        let new = NewOrganization {
            ods: ods(member.ods),
            name: member.name.to_owned(),
            kind: member.kind(),
            care_setting: member.care_setting,
            sensitive: member.sensitive,
            office_phone,
            duty_phone,
            part_of: member.part_of.map(ods),
        };
        store::organization::create(tx.conn, &new, now_ms)?;
        store::organization::create_client(tx.conn, &member.client().expect("a valid client"))?;
    }
    store::organization::create_client(tx.conn, &cast::DEVICE.client().expect("a valid client"))
}

/// ODS code of a text that is one.
pub fn ods(text: &str) -> OdsCode {
    OdsCode::parse(text).expect("an ODS code")
}

/// Demographics are built from a [`Child`].
impl Child {
    pub fn demographics(&self) -> Demographics {
        Demographics {
            family: self.family.to_owned(),
            given: vec![self.given.to_owned()],
            birth_date: self.birth_date.parse().expect("a date"),
        }
    }
}
