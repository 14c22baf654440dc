//! What must hold of a configuration before anything starts; every breach is reported, not just the first.

use std::collections::HashSet;

use tracing_subscriber::EnvFilter;

use super::{IssuerSettings, PdsMode, Settings};

impl Settings {
    /// Appends one sentence for each breach.
    pub(super) fn check(&self, faults: &mut Vec<String>) {
        self.check_address(faults);
        self.check_database(faults);
        self.check_ranges(faults);
        self.check_issuers(faults);
        self.check_credentials(faults);
        if self.mesh.enabled {
            self.check_mesh(faults);
        }
        if self.pds.mode == PdsMode::Fhir {
            self.check_pds(faults);
        }
        if self.sandbox {
            self.check_sandbox(faults);
        } else {
            self.check_service(faults);
        }
        if EnvFilter::builder().parse(&self.log.filter).is_err() {
            faults.push("log.filter: must be directives such as \"info\" or \"info,cpis_gateway=debug\"".to_owned());
        }
    }

    fn check_address(&self, faults: &mut Vec<String>) {
        let path_fits = self.base_path.starts_with('/')
            && !self.base_path.ends_with('/')
            && !self.base_path.contains("//")
            && self.base_path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
        if !path_fits {
            faults.push(
                "base_path: must begin with / and not end with it, e.g. \"/cpis/FHIR/R4\"; letters, digits and -._~ only"
                    .to_owned(),
            );
        }
        if let Some(public) = &self.public_url {
            let rest = public.strip_prefix("https://").or_else(|| public.strip_prefix("http://")).unwrap_or_default();
            let fits = !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.ends_with('/')
                && !rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@\"<>\\".contains(c));
            if !fits {
                faults.push("public_url: must look like \"https://cpis.example.org\", without a last slash".to_owned());
            }
        }
        if self.management.listen == self.listen && self.listen.port() != 0 {
            faults.push("management.listen: must be another address than listen".to_owned());
        }
        if self.data_dir.as_os_str().is_empty() {
            faults.push("data_dir: must name a directory".to_owned());
        }
    }

    fn check_database(&self, faults: &mut Vec<String>) {
        let url = self.database_url();
        if !url.is_postgres() && url.sqlite_path().is_none_or(str::is_empty) {
            faults.push("database.url: must begin with sqlite: (and name a file) or postgres://".to_owned());
        }
        if url.sqlite_path().is_some_and(|path| path.contains(":memory:")) {
            faults.push("database.url: records must be kept in a file, not in memory".to_owned());
        }
        if let Some(owner) = &self.database.owner_url {
            if !owner.is_postgres() {
                faults.push("database.owner_url: must begin with postgres://".to_owned());
            }
            if !url.is_postgres() {
                faults.push("database.owner_url: is for PostgreSQL only; remove it or set database.url".to_owned());
            }
            if *owner == url && !self.sandbox {
                faults.push(
                    "database.owner_url: must be another account than database.url, which may not own the tables"
                        .to_owned(),
                );
            }
        }
    }

    fn check_ranges(&self, faults: &mut Vec<String>) {
        let notify = &self.notify;
        for (name, value, lowest, highest) in [
            ("database.readers", u64::from(self.database.readers), 1, 256),
            ("plans.visible_days", self.plans.visible_days.into(), 0, 3650),
            ("plans.unborn_visible_days", self.plans.unborn_visible_days.into(), 0, 3650),
            ("plans.unborn_longest_days", self.plans.unborn_longest_days.into(), 1, 366),
            ("plans.adult_age", self.plans.adult_age.into(), 16, 25),
            ("access.history_rows", self.access.history_rows.into(), 1, 100),
            ("access.relist_hours", self.access.relist_hours.into(), 0, 168),
            ("upload.max_entries", self.upload.max_entries.into(), 1, 20_000),
            ("upload.body_bytes", self.upload.body_bytes, 16 << 10, 64 << 20),
            ("upload.batch_records", self.upload.batch_records.into(), 1, 64),
            ("upload.wait_seconds", self.upload.wait_seconds.into(), 0, 300),
            ("upload.answer_within_seconds", self.upload.answer_within_seconds.into(), 0, 300),
            ("upload.refused_kept_days", self.upload.refused_kept_days.into(), 0, 3650),
            ("limits.body_bytes", self.limits.body_bytes, 16 << 10, 64 << 20),
            ("limits.distinct_children_per_hour", self.limits.distinct_children_per_hour.into(), 0, 100_000),
            (
                "limits.distinct_children_per_hour_of_devices",
                self.limits.distinct_children_per_hour_of_devices.into(),
                0,
                100_000,
            ),
            ("pds.requests_per_second", self.pds.requests_per_second.into(), 1, 1000),
            ("pds.concurrency", self.pds.concurrency.into(), 1, 256),
            ("pds.timeout_seconds", self.pds.timeout_seconds.into(), 1, 60),
            ("pds.patience_seconds", self.pds.patience_seconds.into(), 1, 600),
            ("pds.attempts", self.pds.attempts.into(), 1, 10),
            ("pds.breaker_failures", self.pds.breaker_failures.into(), 1, 1000),
            ("pds.breaker_seconds", self.pds.breaker_seconds.into(), 1, 3600),
            ("pds.retrace_days", self.pds.retrace_days.into(), 0, 365),
            ("audit.checkpoint_seconds", self.audit.checkpoint_seconds.into(), 1, 3600),
            ("notify.retry_first_seconds", notify.retry_first_seconds.into(), 1, 86_400),
            ("notify.retry_longest_seconds", notify.retry_longest_seconds.into(), 1, 86_400),
            ("notify.retry_attempts", notify.retry_attempts.into(), 1, 10_000),
            ("notify.hook_timeout_seconds", notify.hook_timeout_seconds.into(), 1, 300),
            ("notify.catch_up_days", notify.catch_up_days.into(), 0, 365),
            ("lifecycle.round_seconds", self.lifecycle.round_seconds.into(), 1, 3600),
            ("lifecycle.compared_at_once", self.lifecycle.compared_at_once.into(), 1, 10_000),
            ("lifecycle.silent_hours", self.lifecycle.silent_hours.into(), 1, 8784),
            ("lifecycle.remind_days", self.lifecycle.remind_days.into(), 0, 365),
            ("mesh.poll_seconds", self.mesh.poll_seconds(true).into(), 1, 86_400),
            ("mesh.access_window_minutes", self.mesh.access_window_minutes.into(), 0, 1440),
            ("mesh.max_accesses", self.mesh.max_accesses.into(), 1, 10_000),
            ("mesh.max_message_bytes", self.mesh.max_message_bytes, 1 << 10, 4 << 30),
            ("mesh.chunk_bytes", self.mesh.chunk_bytes.into(), 1, 90_000_000),
            ("mesh.lease_seconds", self.mesh.lease_seconds.into(), 1, 600),
        ] {
            if !(lowest..=highest).contains(&value) {
                faults.push(format!("{name}: must be from {lowest} to {highest}"));
            }
        }
        if notify.retry_first_seconds > notify.retry_longest_seconds {
            faults.push("notify.retry_first_seconds: must not be over notify.retry_longest_seconds".to_owned());
        }
    }

    fn check_issuers(&self, faults: &mut Vec<String>) {
        let mut seen = HashSet::new();
        for (number, issuer) in self.auth.issuers.iter().enumerate() {
            let mut fault = |text: &str| faults.push(format!("auth.issuers[{number}]: {text}"));
            let IssuerSettings { issuer: name, audience, jwks_file, pem_file, kid } = issuer;
            if name.trim().is_empty() {
                fault("issuer must not be empty");
            }
            if audience.trim().is_empty() {
                fault("audience must not be empty");
            }
            if !seen.insert(name) {
                fault("this issuer is listed twice");
            }
            match (jwks_file, pem_file, kid) {
                (Some(_), None, None) => {}
                (Some(_), None, Some(_)) => fault("kid goes with pem_file; the keys of jwks_file name their own"),
                (None, Some(_), Some(kid)) if !kid.is_empty() => {}
                (None, Some(_), _) => fault("pem_file needs kid, the id of that key"),
                (None, None, _) | (Some(_), Some(_), _) => fault("give exactly one of jwks_file and pem_file"),
            }
        }
    }

    /// URLs are printed as they are, whatever uses them: they hold no password.
    fn check_credentials(&self, faults: &mut Vec<String>) {
        for (name, url) in
            [("mesh.url", &self.mesh.url), ("pds.url", &self.pds.url), ("pds.token_url", &self.pds.token_url)]
        {
            if url.as_ref().is_some_and(|url| url.contains('@')) {
                faults.push(format!("{name}: must hold no user name or password, and no @"));
            }
        }
    }

    fn check_mesh(&self, faults: &mut Vec<String>) {
        let mesh = &self.mesh;
        let mut fault = |text: &str| faults.push(format!("mesh.{text}"));
        match mesh.url.as_deref() {
            None => {
                fault("url: is needed: the address of MESH's environment, e.g. \"https://msg.intspineservices.nhs.uk\"")
            }
            Some(url) if url.starts_with("https://") || (self.sandbox && url.starts_with("http://")) => {}
            Some(_) => fault("url: must be https:// (http:// in the sandbox only)"),
        }
        let is_id = |id: &str| {
            !id.is_empty() && id.len() <= 100 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        };
        if !mesh.mailbox.as_deref().is_some_and(is_id) {
            fault("mailbox: is needed: the gateway's own mailbox id, in capital letters and digits");
        }
        for (name, given) in [
            ("password", [mesh.password.is_some(), mesh.password_file.is_some()]),
            ("shared_key", [mesh.shared_key.is_some(), mesh.shared_key_file.is_some()]),
        ] {
            if given[0] == given[1] {
                fault(&format!("{name}: give exactly one of {name} and {name}_file"));
            }
        }
        if mesh.client_certificate.is_some() != mesh.client_key.is_some() {
            fault("client_certificate: goes together with mesh.client_key");
        }
        if mesh.client_certificate.is_none() && !self.sandbox {
            fault(
                "client_certificate: is needed outside the sandbox, and mesh.client_key: MESH asks for a certificate",
            );
        }
        let workflows = [
            ("upload_workflow", &mesh.upload_workflow),
            ("acknowledgement_workflow", &mesh.acknowledgement_workflow),
            ("access_workflow", &mesh.access_workflow),
            ("inactive_workflow", &mesh.inactive_workflow),
        ];
        for (name, id) in workflows {
            let fits = |id: &String| !id.is_empty() && id.len() <= 300 && id.bytes().all(|b| b.is_ascii_graphic());
            if !id.as_ref().is_some_and(fits) {
                fault(&format!("{name}: is needed: the workflow id that MESH has registered for it"));
            }
        }
        if !self.sandbox && mesh.poll_seconds.is_some_and(|seconds| seconds < 300) {
            fault("poll_seconds: MESH asks for at most one look in five minutes: at least 300 outside the sandbox");
        }
    }

    fn check_pds(&self, faults: &mut Vec<String>) {
        let pds = &self.pds;
        let mut fault = |text: &str| faults.push(format!("pds.{text}"));
        for (name, url, example) in [
            ("url", &pds.url, "https://api.service.nhs.uk/personal-demographics/FHIR/R4"),
            ("token_url", &pds.token_url, "https://api.service.nhs.uk/oauth2/token"),
        ] {
            match url.as_deref().map(|url| (url, reqwest::Url::parse(url))) {
                None => fault(&format!("{name}: is needed for mode \"fhir\", e.g. \"{example}\"")),
                Some((text, url)) => {
                    let schemes = if self.sandbox { &["https", "http"][..] } else { &["https"] };
                    if !url.as_ref().is_ok_and(|url| schemes.contains(&url.scheme())) {
                        fault(&format!("{name}: must be https:// (http:// in the sandbox only)"));
                    }
                    if text.ends_with('/') || url.is_ok_and(|url| url.query().is_some() || url.fragment().is_some()) {
                        fault(&format!("{name}: must end with its path, without a last slash, e.g. \"{example}\""));
                    }
                }
            }
        }
        if pds.audience.as_deref().is_some_and(|audience| audience.trim().is_empty()) {
            fault("audience: must not be empty; without it, it is token_url");
        }
        if pds.api_key.is_some() == pds.api_key_file.is_some() {
            fault("api_key: give exactly one of api_key and api_key_file");
        }
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        if pds.api_key.as_ref().is_some_and(|key| !is_key(key.expose())) {
            fault("api_key: must be letters, digits and signs, without spaces");
        }
        if pds.key_file.as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
            fault("key_file: is needed: the application's private RSA key (PEM)");
        }
        if !pds.kid.as_deref().is_some_and(is_key) {
            fault("kid: is needed, without spaces: the id under which the public key is registered");
        }
        if pds.timeout_seconds > pds.patience_seconds {
            fault("timeout_seconds: must not be over pds.patience_seconds");
        }
    }

    fn check_sandbox(&self, faults: &mut Vec<String>) {
        if !self.management.listen.ip().is_loopback() {
            faults.push("management.listen: the sandbox serves this machine only; use 127.0.0.1".to_owned());
        }
        if !self.listen.ip().is_loopback() {
            faults.push(
                "listen: the sandbox serves this machine only; use 127.0.0.1, or configure a real service".to_owned(),
            );
        }
    }

    fn check_service(&self, faults: &mut Vec<String>) {
        if self.auth.issuers.is_empty() {
            faults.push(
                "auth.issuers: name at least one issuer of access tokens (or try the gateway out with --sandbox)"
                    .to_owned(),
            );
        }
        if self.audit.signing_key.is_none() {
            faults.push(
                "audit.signing_key: name the private key (PEM file) that signs the audit's checkpoints; keep it outside the database"
                    .to_owned(),
            );
        }
        if self.public_url.as_ref().is_some_and(|public| !public.starts_with("https://")) {
            faults.push("public_url: must be https:// outside the sandbox".to_owned());
        }
    }
}
