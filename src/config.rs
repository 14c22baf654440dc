//! The one typed configuration: defaults < file < environment (`CPIS_SECTION__KEY`) < command line.
//!
//! `cpis.example.toml` names every setting with its default and is the reference for operators; a test holds the two
//! together. How the layers are read is in [`load`], what is checked at start in [`checks`].

mod checks;
mod database_url;
mod load;
mod network;
mod secret;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use database_url::DatabaseUrl;
pub use load::{ConfigFault, Overrides};
pub use network::Network;
pub use secret::Secret;

/// Every setting of the gateway, checked. Relative paths are relative to the working directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Synthetic data, own keys, loopback only (design 11).
    pub sandbox: bool,
    /// Where HTTP is served. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Path of the FHIR base: begins with `/`, doesn't end with it.
    pub base_path: String,
    /// Scheme, host and path prefix under which clients reach the gateway, without `base_path`; for links.
    pub public_url: Option<String>,
    /// Holds the SQLite database and what the sandbox makes.
    pub data_dir: PathBuf,
    /// IANA name of the zone of civil dates, never the host's (design 2).
    #[serde(serialize_with = "zone_name", deserialize_with = "zone_by_name")]
    pub zone: Tz,
    pub database: DatabaseSettings,
    pub plans: PlanSettings,
    pub access: AccessSettings,
    pub upload: UploadSettings,
    pub limits: LimitSettings,
    pub pds: PdsSettings,
    pub auth: AuthSettings,
    pub audit: AuditSettings,
    pub notify: NotifySettings,
    pub management: ManagementSettings,
    pub lifecycle: LifecycleSettings,
    pub mesh: MeshSettings,
    pub log: LogSettings,
}

/// Where the records live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `sqlite:PATH` or `postgres://...`; a SQLite file in the data directory when absent.
    pub url: Option<DatabaseUrl>,
    /// PostgreSQL only: the account that owns the tables; used by `migrate` alone.
    pub owner_url: Option<DatabaseUrl>,
    /// Connections that read at the same time.
    pub readers: u32,
}

/// Which plans are shown, in days and years of civil dates (design 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanSettings {
    /// Days after its end that a CPP or LAC is still shown.
    pub visible_days: u16,
    /// Days after its end that a UCP is still shown.
    pub unborn_visible_days: u16,
    /// Days after its start at which a UCP counts as ended if it has no earlier end.
    pub unborn_longest_days: u16,
    /// Age in years from which no CPP or LAC is shown.
    pub adult_age: u8,
}

/// How look-ups are answered and listed (design 3 and 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Rows of a child's access history.
    pub history_rows: u8,
    /// Hours in which the same author is not listed again for the same child and authority.
    pub relist_hours: u16,
    /// Show clinicians the child's name and birth date.
    pub disclose_demographics: bool,
    pub scheduled_care: ScheduledCare,
}

/// What `IsUnscheduledAccessEvent: false` gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduledCare {
    /// 403.
    Refuse,
    /// Data for callers with B0170: audited, neither listed nor notified.
    SilentRead,
}

/// What a local authority may send (design 6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// Entries of one Bundle.
    pub max_entries: u32,
    /// Largest Bundle, in bytes.
    pub body_bytes: u64,
    /// Records that are judged in one transaction; a Bundle of no more is applied in one.
    pub batch_records: u16,
    /// Seconds that a change waits for the one of its authority before it.
    pub wait_seconds: u16,
    /// Seconds after which an upload that still goes on is answered 202.
    pub answer_within_seconds: u16,
    /// Days that a refused record is kept; then its position and code only.
    pub refused_kept_days: u16,
}

/// Bounds of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest request body in bytes, but for an upload's.
    pub body_bytes: u64,
    /// Different children that a user may ask for within an hour before an alert is raised; 0: no cap.
    pub distinct_children_per_hour: u32,
    /// The same of an unattended client.
    pub distinct_children_per_hour_of_devices: u32,
    /// Refuse further children over these caps.
    pub refuse_over_cap: bool,
}

/// How NHS numbers are verified (design 9). All but `mode` is for [`PdsMode::Fhir`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PdsSettings {
    pub mode: PdsMode,
    /// FHIR base of PDS, without a last slash.
    pub url: Option<String>,
    /// Where PDS's authorization server issues access tokens.
    pub token_url: Option<String>,
    /// The `aud` of what is sent there; `token_url` when absent.
    pub audience: Option<String>,
    /// API key of the application that is registered for PDS.
    pub api_key: Option<Secret>,
    /// File that holds the API key instead; white space around it is dropped.
    pub api_key_file: Option<PathBuf>,
    /// The application's private RSA key in PEM.
    pub key_file: Option<PathBuf>,
    /// The id under which its public key is registered.
    pub kid: Option<String>,
    /// CA certificates that PDS's own is judged by (PEM); the machine's when absent.
    pub authorities: Option<PathBuf>,
    /// Most requests that this process makes in any second, those tried again among them.
    pub requests_per_second: u16,
    /// Most requests under way at the same time.
    pub concurrency: u16,
    /// Seconds that one request may take.
    pub timeout_seconds: u16,
    /// Seconds until a number's answer is given up, whatever tries are left.
    pub patience_seconds: u16,
    /// Requests made about one number before it is given up.
    pub attempts: u16,
    /// Requests in a row that must fail for PDS to count as away.
    pub breaker_failures: u16,
    /// Seconds that PDS then is left alone, until one request tries it.
    pub breaker_seconds: u16,
    /// Days in which each stored number with a visible plan is traced again, with the national PDS; 0 never.
    pub retrace_days: u16,
}

/// Whom the gateway asks about an NHS number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PdsMode {
    /// A local register of demographics.
    Register,
    /// The national PDS FHIR API.
    Fhir,
    /// Nobody: modulus 11 only, the birth date as sent.
    Off,
}

/// Whose tokens are accepted (design 10).
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    pub issuers: Vec<IssuerSettings>,
}

/// One issuer of access tokens. Exactly one of `jwks_file` and `pem_file` is given; `pem_file` needs `kid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The `iss` claim, compared exactly.
    pub issuer: String,
    /// The `aud` claim that the token must hold.
    pub audience: String,
    /// JSON Web Key Set with the issuer's public keys.
    pub jwks_file: Option<PathBuf>,
    /// One public key in PEM.
    pub pem_file: Option<PathBuf>,
    /// The `kid` of the key in `pem_file`.
    pub kid: Option<String>,
}

/// Evidence that the audit is whole (design 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Private key in PEM that signs checkpoints; the sandbox makes its own in the data directory.
    pub signing_key: Option<PathBuf>,
    /// Seconds between checkpoints while there is traffic.
    pub checkpoint_seconds: u16,
}

/// Delivery of notifications to local authorities (design 7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifySettings {
    /// Seconds before the second try; doubled after each further one.
    pub retry_first_seconds: u32,
    /// Longest pause between two tries, in seconds; also caps `Retry-After`.
    pub retry_longest_seconds: u32,
    /// Tries before a notification counts as undeliverable.
    pub retry_attempts: u16,
    /// Seconds that a hook may take to answer.
    pub hook_timeout_seconds: u16,
    /// Days of earlier notifications that a new channel gets.
    pub catch_up_days: u16,
    /// Networks that hooks may be in beside what is reachable from everywhere.
    pub allow_targets: Vec<Network>,
    /// Ed25519 key in PEM that signs notifications; derived from `audit.signing_key` when absent.
    pub signing_key: Option<PathBuf>,
}

/// What is for the operator alone, on an address of its own (design 11).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagementSettings {
    /// Where `/metrics` is served, without TLS and without a token. Port 0 lets the system choose.
    pub listen: SocketAddr,
}

/// What becomes of records after they were sent (design 2, 7 and 9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LifecycleSettings {
    /// Seconds between two rounds that end records, compare numbers with the register and look for silent authorities.
    pub round_seconds: u16,
    /// Stored numbers that one round compares with the register.
    pub compared_at_once: u16,
    /// Hours without an applied change after which an authority counts as silent.
    pub silent_hours: u16,
    /// Days after which records that were refused, and not resolved, are shown to their authority again; 0 never.
    pub remind_days: u16,
}

/// The gateway's own MESH mailbox (domain.md 5.2), by which authorities without FHIR upload and are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshSettings {
    pub enabled: bool,
    /// Scheme and host of MESH, without a last slash.
    pub url: Option<String>,
    /// The gateway's mailbox id, in capitals.
    pub mailbox: Option<String>,
    pub password: Option<Secret>,
    /// File that holds the password instead; white space around it is dropped.
    pub password_file: Option<PathBuf>,
    /// Shared key of the MESH environment.
    pub shared_key: Option<Secret>,
    pub shared_key_file: Option<PathBuf>,
    /// Client certificate of the mailbox (PEM, with what links it to its authority).
    pub client_certificate: Option<PathBuf>,
    /// Its private key (PEM, PKCS #8).
    pub client_key: Option<PathBuf>,
    /// CA certificates that MESH's own is judged by (PEM); the machine's when absent.
    pub authorities: Option<PathBuf>,
    /// Workflow id of the files that authorities send.
    pub upload_workflow: Option<String>,
    /// Workflow id of the acknowledgements of these files.
    pub acknowledgement_workflow: Option<String>,
    /// Workflow id of access notifications.
    pub access_workflow: Option<String>,
    /// Workflow id of notifications of inactive NHS numbers.
    pub inactive_workflow: Option<String>,
    /// Seconds between two looks into the inbox; see [`MeshSettings::poll_seconds`].
    pub poll_seconds: Option<u32>,
    /// Minutes whose accesses go into one message; 0 for a message each.
    pub access_window_minutes: u16,
    /// Most accesses in one message.
    pub max_accesses: u16,
    /// Largest message that is read, in bytes after decompression.
    pub max_message_bytes: u64,
    /// Bytes of a message, before compression, that one request carries.
    pub chunk_bytes: u32,
    /// Seconds after which another process takes over from one that died.
    pub lease_seconds: u16,
}

/// What the process writes to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, e.g. `info,cpis_gateway::notify=debug`.
    pub filter: String,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Pretty,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sandbox: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            base_path: "/cpis/FHIR/R4".to_owned(),
            public_url: None,
            data_dir: PathBuf::from("data"),
            zone: Tz::Europe__London,
            database: DatabaseSettings::default(),
            plans: PlanSettings::default(),
            access: AccessSettings::default(),
            upload: UploadSettings::default(),
            limits: LimitSettings::default(),
            pds: PdsSettings::default(),
            auth: AuthSettings::default(),
            audit: AuditSettings::default(),
            notify: NotifySettings::default(),
            management: ManagementSettings::default(),
            lifecycle: LifecycleSettings::default(),
            mesh: MeshSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { url: None, owner_url: None, readers: 4 }
    }
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self { visible_days: 365, unborn_visible_days: 28, unborn_longest_days: 300, adult_age: 18 }
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { history_rows: 25, relist_hours: 24, disclose_demographics: false, scheduled_care: ScheduledCare::Refuse }
    }
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            max_entries: 20_000,
            body_bytes: 64 << 20,
            batch_records: 16,
            wait_seconds: 30,
            answer_within_seconds: 10,
            refused_kept_days: 90,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            distinct_children_per_hour: 100,
            distinct_children_per_hour_of_devices: 0,
            refuse_over_cap: false,
        }
    }
}

impl Default for PdsSettings {
    fn default() -> Self {
        Self {
            mode: PdsMode::Register,
            url: None,
            token_url: None,
            audience: None,
            api_key: None,
            api_key_file: None,
            key_file: None,
            kid: None,
            authorities: None,
            requests_per_second: 5,
            concurrency: 8,
            timeout_seconds: 10,
            patience_seconds: 30,
            attempts: 4,
            breaker_failures: 5,
            breaker_seconds: 30,
            retrace_days: 7,
        }
    }
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { signing_key: None, checkpoint_seconds: 10 }
    }
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            retry_first_seconds: 30,
            retry_longest_seconds: 3600,
            retry_attempts: 100,
            hook_timeout_seconds: 10,
            catch_up_days: 30,
            allow_targets: Vec::new(),
            signing_key: None,
        }
    }
}

impl Default for ManagementSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self { round_seconds: 60, compared_at_once: 1000, silent_hours: 36, remind_days: 7 }
    }
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            url: None,
            mailbox: None,
            password: None,
            password_file: None,
            shared_key: None,
            shared_key_file: None,
            client_certificate: None,
            client_key: None,
            authorities: None,
            upload_workflow: None,
            acknowledgement_workflow: None,
            access_workflow: None,
            inactive_workflow: None,
            poll_seconds: None,
            access_window_minutes: 15,
            max_accesses: 500,
            max_message_bytes: 256 << 20,
            chunk_bytes: 16 << 20,
            lease_seconds: 30,
        }
    }
}

impl MeshSettings {
    /// Seconds between two looks into the inbox: MESH asks for at most one in five minutes; the sandbox's MESH is its own.
    pub fn poll_seconds(&self, sandbox: bool) -> u32 {
        self.poll_seconds.unwrap_or(if sandbox { 5 } else { 300 })
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, filter: "info".to_owned() }
    }
}

impl Settings {
    /// The database in use: as set, else the SQLite file `cpis.sqlite` in the data directory.
    pub fn database_url(&self) -> DatabaseUrl {
        self.database
            .url
            .clone()
            .unwrap_or_else(|| DatabaseUrl::new(format!("sqlite:{}", self.data_dir.join("cpis.sqlite").display())))
    }

    /// The FHIR base as clients see it, without a last slash; `bound` is the address really listened on.
    pub fn fhir_base(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(public) => format!("{public}{}", self.base_path),
            None => format!("http://{bound}{}", self.base_path),
        }
    }

    /// The effective configuration as TOML, passwords replaced by `***`.
    ///
    /// # Errors
    /// When a path isn't UTF-8.
    pub fn redacted_toml(&self) -> Result<String, toml::ser::Error> {
        let mut effective = self.clone();
        effective.database.url = Some(self.database_url());
        toml::to_string(&effective)
    }
}

fn zone_name<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

fn zone_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(|_| serde::de::Error::custom("is not an IANA time zone such as \"Europe/London\""))
}

#[cfg(test)]
mod tests;
