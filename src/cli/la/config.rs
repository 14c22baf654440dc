//! Where the gateway is and who calls: a configuration file, the environment, the command line, the last one wins.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use secrecy::SecretString;
use serde::Deserialize;

use super::{LaFault, mailbox::MailboxSettings};
use crate::cpis::types::{OdsCode, Phone};

/// The sandbox, as `make run` starts it.
const SANDBOX: &str = "http://127.0.0.1:8080/cpis/FHIR/R4";

#[derive(Args)]
pub struct Connection {
    /// Configuration file (TOML) of the client; docs/la-client.md names every setting.
    #[arg(long, value_name = "FILE", env = "CPISLA_CONFIG")]
    config: Option<PathBuf>,
    /// FHIR base of the gateway, such as `https://cpis.example.org/cpis/FHIR/R4`.
    #[arg(long, value_name = "URL", env = "CPISLA_URL")]
    url: Option<String>,
    /// Access token. Better in the environment or in a file: other users of the machine see the command line.
    #[arg(long, value_name = "TOKEN", env = "CPISLA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the access token.
    #[arg(long, value_name = "FILE", env = "CPISLA_TOKEN_FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The gateway is a sandbox: get a token for this authority from it.
    #[arg(long, value_name = "ODS", conflicts_with_all = ["token", "token_file"])]
    sandbox_authority: Option<String>,
    /// ODS code of the authority.
    #[arg(long, value_name = "ODS", env = "CPISLA_AUTHORITY")]
    authority: Option<String>,
    /// File that keeps the numbers of the files and the place in the notifications.
    #[arg(long, value_name = "FILE", env = "CPISLA_STATE")]
    state: Option<PathBuf>,
}

/// The configuration file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    url: Option<String>,
    token_file: Option<PathBuf>,
    authority: Option<String>,
    /// Of the authority, for HL7 v3 files made of CSV.
    name: Option<String>,
    duty_phone: Option<String>,
    office_phone: Option<String>,
    state: Option<PathBuf>,
    mesh: Option<MailboxSettings>,
}

/// How the gateway takes the caller for whom it is.
pub enum Credentials {
    Token(SecretString),
    /// Asked of the sandbox.
    Sandbox(OdsCode),
}

/// What a command works with.
pub struct Settings {
    /// Without a last slash.
    pub url: String,
    pub credentials: Option<Credentials>,
    pub authority: Option<OdsCode>,
    pub name: Option<String>,
    pub duty_phone: Option<Phone>,
    pub office_phone: Option<Phone>,
    pub state: PathBuf,
    pub mesh: Option<MailboxSettings>,
}

impl Connection {
    /// # Errors
    /// [`LaFault::Usage`] for what can't be read or contradicts itself.
    pub fn settings(&self) -> Result<Settings, LaFault> {
        let file = self.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let sandbox = self.sandbox_authority.as_deref().map(|ods| ods_code("--sandbox-authority", ods)).transpose()?;
        let token = match (&self.token, self.token_file.clone().or(file.token_file), &sandbox) {
            (Some(token), ..) => Some(token.trim().to_owned()),
            (None, _, Some(_)) | (None, None, None) => None,
            (None, Some(path), None) => Some(read(&path)?.trim().to_owned()),
        };
        let authority = self.authority.clone().or(file.authority);
        let authority = authority.as_deref().map(|ods| ods_code("authority", ods)).transpose()?.or(sandbox.clone());
        let phone = |name: &str, text: Option<String>| {
            let read = text.map(|text| Phone::parse(&text)).transpose();
            read.map_err(|invalid| LaFault::Usage(format!("{name}: {invalid}")))
        };
        let credentials = match (token, sandbox) {
            (Some(token), _) => Some(Credentials::Token(SecretString::from(token))),
            (None, Some(sandbox)) => Some(Credentials::Sandbox(sandbox)),
            (None, None) => None,
        };
        let url = self.url.clone().or(file.url);
        let url = match (url, &credentials) {
            (Some(url), _) => url,
            (None, Some(Credentials::Sandbox(_))) => SANDBOX.to_owned(),
            (None, _) => String::new(),
        };
        let state = self.state.clone().or(file.state);
        Ok(Settings {
            url: url.trim_end_matches('/').to_owned(),
            credentials,
            name: file.name,
            duty_phone: phone("duty_phone", file.duty_phone)?,
            office_phone: phone("office_phone", file.office_phone)?,
            state: state.unwrap_or_else(|| default_state(authority.as_ref())),
            authority,
            mesh: file.mesh,
        })
    }
}

fn read_file(path: &Path) -> Result<File, LaFault> {
    // The message of a TOML fault may quote the line: only its place is told.
    toml::from_str(&read(path)?).map_err(|fault| {
        let place = fault.span().map(|span| format!(" near byte {}", span.start + 1)).unwrap_or_default();
        LaFault::Usage(format!("the configuration file {} has a fault{place}: {}", path.display(), fault.message()))
    })
}

fn read(path: &Path) -> Result<String, LaFault> {
    fs::read_to_string(path).map_err(|error| LaFault::Usage(format!("{} can't be read: {error}", path.display())))
}

fn ods_code(name: &str, text: &str) -> Result<OdsCode, LaFault> {
    OdsCode::parse(text).map_err(|invalid| LaFault::Usage(format!("{name}: {invalid}")))
}

/// One file for each authority, where programs keep their state.
fn default_state(authority: Option<&OdsCode>) -> PathBuf {
    let directory = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let directory = directory.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    let name = authority.map_or("authority", OdsCode::as_str);
    directory.unwrap_or_default().join("cpis-gateway").join(format!("la-{name}.json"))
}
