//! A database URL, whose password is never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `sqlite:PATH`, `postgres://...` or `postgresql://...`. `Debug`, `Display` and serde print it redacted.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(SecretString::from(url.into()))
    }

    /// The URL with its password; for opening the connection only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub fn is_postgres(&self) -> bool {
        ["postgres://", "postgresql://"].iter().any(|scheme| self.expose().starts_with(scheme))
    }

    /// The file of a `sqlite:` URL.
    pub fn sqlite_path(&self) -> Option<&str> {
        self.expose().strip_prefix("sqlite:")
    }

    /// The URL with every password in it replaced by `***`. When in doubt, hides more than the password.
    pub fn redacted(&self) -> String {
        let url = self.expose();
        if self.sqlite_path().is_some() {
            return url.to_owned();
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return "***".to_owned();
        };
        // The last '@' of all: a password may hold an unescaped '@', '/' or '?'.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user_info, rest)) => match user_info.split_once(':') {
                Some((user, _)) => (format!("{user}:***@"), rest),
                None => (format!("{user_info}@"), rest),
            },
            None => (String::new(), rest),
        };
        let rest = match rest.split_once('?') {
            Some((place, query)) => {
                let parts: Vec<String> = query.split('&').map(redacted_parameter).collect();
                format!("{place}?{}", parts.join("&"))
            }
            None => rest.to_owned(),
        };
        format!("{scheme}://{user}{rest}")
    }
}

/// libpq also takes `password`, `sslpassword` and `passfile` as parameters; any such name is hidden.
fn redacted_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") || name.contains('%') => format!("{name}=***"),
        _ => parameter.to_owned(),
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.redacted())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed() {
        for (url, printed) in [
            ("sqlite:data/cpis.sqlite", "sqlite:data/cpis.sqlite"),
            ("postgres://cpis:hunter2@db.example/cpis", "postgres://cpis:***@db.example/cpis"),
            ("postgres://cpis@%2Frun%2Fpg/cpis", "postgres://cpis@%2Frun%2Fpg/cpis"),
            ("postgresql://db.example/cpis", "postgresql://db.example/cpis"),
            ("postgres://cpis:hun/ter@2?x@db.example/cpis?a=1", "postgres://cpis:***@db.example/cpis?a=1"),
            ("postgres://db/cpis?password=hunter2&sslmode=require", "postgres://db/cpis?password=***&sslmode=require"),
            ("postgres://db/cpis?sslPassword=hunter2", "postgres://db/cpis?sslPassword=***"),
            ("postgres://db/cpis?%70assword=hunter2", "postgres://db/cpis?%70assword=***"),
            ("host=db password=hunter2", "***"),
        ] {
            let url = DatabaseUrl::new(url);
            assert_eq!(url.redacted(), printed);
            assert!(!format!("{url:?} {url}").contains("hunter2"), "{printed}");
        }
    }
}
