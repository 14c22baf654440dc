//! Reads the layers of the configuration and reports every fault of all of them at once.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::{DatabaseUrl, Settings};

/// What the command line says; wins over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--sandbox`: `Some(true)` when given.
    pub sandbox: Option<bool>,
    pub listen: Option<SocketAddr>,
    pub data_dir: Option<PathBuf>,
    pub database_url: Option<DatabaseUrl>,
}

/// Everything that is wrong with the configuration, in plain English; never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault(Vec<String>);

impl ConfigFault {
    pub fn faults(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration can't be used:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

impl std::error::Error for ConfigFault {}

impl Settings {
    /// Defaults < `file` < environment variables `CPIS_SECTION__KEY` < `overrides`; then checked.
    ///
    /// Without a file, a `CPIS_` setting or a database URL on the command line it is the sandbox; with any of them the
    /// sandbox must be asked for, so that a real service can't turn into one by a forgotten setting.
    /// Variables that are empty count as absent; those that begin with `CPIS_TEST_` belong to the tests.
    ///
    /// # Errors
    /// [`ConfigFault`] with every fault: unreadable file, unknown key, wrong type, value out of range, contradiction.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, ConfigFault> {
        let mut layers = Layers::default();
        if let Some(path) = file {
            layers.read_file(path);
        }
        let configured_by_environment = layers.read_environment(env);
        let nothing_said = file.is_none() && !configured_by_environment && overrides.database_url.is_none();
        let Layers { merged, mut faults } = layers;
        // Each setting was tried alone, so the whole can't fail; if it does, that is a fault like any other.
        let mut settings = Self::deserialize(Value::Table(merged)).unwrap_or_else(|error| {
            faults.push(error.message().to_owned());
            Self::default()
        });
        settings.sandbox |= nothing_said;
        settings.apply(overrides);
        settings.check(&mut faults);
        if faults.is_empty() { Ok(settings) } else { Err(ConfigFault(faults)) }
    }

    fn apply(&mut self, overrides: Overrides) {
        let Overrides { sandbox, listen, data_dir, database_url } = overrides;
        if let Some(sandbox) = sandbox {
            self.sandbox = sandbox;
        }
        if let Some(listen) = listen {
            self.listen = listen;
        }
        if let Some(data_dir) = data_dir {
            self.data_dir = data_dir;
        }
        if let Some(url) = database_url {
            self.database.url = Some(url);
        }
    }
}

/// The settings read so far, later layers over earlier ones.
#[derive(Default)]
struct Layers {
    merged: Table,
    faults: Vec<String>,
}

impl Layers {
    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.faults.push(format!("{shown}: can't be read: {error}")),
        };
        match text.parse::<Table>() {
            Ok(table) => {
                for (place, value) in leaves(&table, &[]) {
                    self.take(&place, [Some(value), None], &format!("{} in {shown}", place.join(".")));
                }
            }
            // Not the error's own text: it quotes the line, which may hold a password.
            Err(error) => {
                let line =
                    error.span().map_or(1, |span| text.get(..span.start).unwrap_or(&text).matches('\n').count() + 1);
                self.faults.push(format!("{shown}, line {line}: {}", error.message()));
            }
        }
    }

    /// True if any variable is a setting.
    fn read_environment(&mut self, env: impl Iterator<Item = (String, String)>) -> bool {
        let mut variables: Vec<(String, String)> = env
            .filter(|(name, text)| name.starts_with("CPIS_") && !name.starts_with("CPIS_TEST_") && !text.is_empty())
            .collect();
        variables.sort();
        for (name, text) in &variables {
            let place: Vec<String> =
                name.trim_start_matches("CPIS_").to_lowercase().split("__").map(str::to_owned).collect();
            let as_toml = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
            self.take(&place, [Some(Value::String(text.clone())), as_toml], name);
        }
        !variables.is_empty()
    }

    /// Keeps the first reading of the value that fits the setting at `place`.
    fn take(&mut self, place: &[String], readings: [Option<Value>; 2], from: &str) {
        let mut why = String::new();
        for value in readings.into_iter().flatten() {
            let alone = nested(place, value.clone());
            match Settings::deserialize(Value::Table(alone)) {
                Ok(_) => return put(&mut self.merged, place, value),
                Err(error) => why = error.message().to_owned(),
            }
        }
        // serde quotes a value of the wrong type, and one below `database` or `mesh` may be a password.
        if place.first().is_some_and(|section| ["database", "mesh"].contains(&section.as_str()))
            && why.starts_with("invalid")
        {
            why = "the value has the wrong type".to_owned();
        }
        self.faults.push(format!("{from}: {why}"));
    }
}

/// The settings of a table with their places; an empty table is one too, so that its name is judged.
fn leaves(table: &Table, above: &[String]) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let place: Vec<String> = above.iter().chain([key]).cloned().collect();
        match value {
            Value::Table(inner) if !inner.is_empty() => found.extend(leaves(inner, &place)),
            _ => found.push((place, value.clone())),
        }
    }
    found
}

/// A table with this one setting.
fn nested(place: &[String], value: Value) -> Table {
    let mut table = Table::new();
    put(&mut table, place, value);
    table
}

fn put(table: &mut Table, place: &[String], value: Value) {
    match place {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, below @ ..] => {
            let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, below, value);
            }
        }
    }
}
