//! What a sandbox says when it has started: what it is, where it is, and a command for each role that works as printed.

use std::net::SocketAddr;

use super::directory::Directory;
use crate::{
    cpis::types::caller::Role,
    http::sandbox::{Sandbox, TokenForm, TokenRefusal},
};
use chrono::{DateTime, Utc};

/// How long the printed tokens are valid, in seconds.
pub const LIFETIME: i64 = 12 * 60 * 60;

/// The text, with a fresh token in each command. `root` is the service's address without the FHIR base's path,
/// `management` where its metrics are.
///
/// # Errors
/// [`TokenRefusal`] when no token can be signed.
pub fn banner(
    sandbox: &Sandbox,
    directory: &Directory,
    (root, management): (&str, SocketAddr),
    data_dir: &str,
    now: DateTime<Utc>,
) -> Result<String, TokenRefusal> {
    let base = &directory.base_url;
    let mut text = format!(
        "\nCP-IS gateway sandbox: SYNTHETIC DATA, nobody in it is real. For this machine only.\n\n\
         FHIR base      {base}\n\
         Documentation  {root}/docs\n\
         Metrics        http://{management}/metrics\n\
         For scripts    {data_dir}/{}\n\
         Another token  cpis-gateway token --role ROLE --data {}\n",
        super::directory::FILE,
        quoted(data_dir)
    );
    let child = directory.examples.active_plan.as_str();
    let commands = [
        (
            Role::Clinical,
            "A clinician looks a child up (audited, listed, the local authority is told)",
            format!("{base}/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number|{child}"),
        ),
        (
            Role::LocalAuthority,
            "A local authority reads its own flags of the child",
            format!("{base}/Flag?patient={child}"),
        ),
        (Role::Auditor, "An auditor asks who did what about the child", format!("{base}/AuditEvent?patient={child}")),
        (Role::Administrator, "An administrator lists the organisations", format!("{base}/Organization")),
    ];
    for (role, about, url) in commands {
        let form = TokenForm { role: Some(role.code().to_owned()), ..TokenForm::default() };
        let token = sandbox.token(&form, LIFETIME, now)?.access_token;
        let header = quoted(&format!("Authorization: Bearer {token}"));
        text.push_str(&format!("\n# {about} [{}]\ncurl -s -H {header} {}\n", role.code(), quoted(&url)));
    }
    Ok(text)
}

/// One word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cli::sandbox::population::Population;

    #[test]
    fn every_text_is_one_word_of_the_shell() {
        for text in ["a b", "$HOME `x` \"y\"", "it's", "'", "https://x/y?a=1&b|c", ""] {
            let echoed = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output().unwrap();
            assert_eq!(String::from_utf8(echoed.stdout).unwrap(), text);
        }
    }

    #[test]
    fn there_is_a_command_for_each_role() {
        let keys = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::open(keys.path()).unwrap();
        let everybody = Population::on("2026-11-23".parse().unwrap());
        let directory = Directory::of(&everybody, "seed", "http://127.0.0.1:8080/cpis/FHIR/R4".to_owned()).unwrap();
        let text =
            banner(&sandbox, &directory, ("http://127.0.0.1:8080", ([127, 0, 0, 1], 9000).into()), "data", Utc::now())
                .unwrap();
        assert!(text.contains("SYNTHETIC DATA") && text.contains("http://127.0.0.1:8080/docs\n"), "{text}");
        assert!(text.contains("http://127.0.0.1:9000/metrics\n"), "{text}");
        let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(commands.len(), 4);
        for command in commands {
            let shown = command.replacen("curl", "printf '%s\\n'", 1);
            let words = Command::new("sh").arg("-c").arg(shown).output().unwrap();
            let words = String::from_utf8(words.stdout).unwrap();
            let words: Vec<&str> = words.lines().collect();
            assert_eq!(&words[..2], ["-s", "-H"]);
            assert!(words[2].starts_with("Authorization: Bearer eyJ"));
            assert!(words.len() == 4 && words[3].starts_with("http://127.0.0.1:8080/cpis/FHIR/R4/"));
        }
    }
}
