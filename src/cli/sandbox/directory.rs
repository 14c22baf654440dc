//! `sandbox.json`: what scripts need to know of a sandbox. Written last, whole or not at all, so that it also tells a
//! finished seed from a half-finished one.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::population::{Known, Person, Population};
use crate::{
    cpis::types::{NhsNumber, caller::Role, organization::CareSetting},
    http::sandbox::cast::{ACTORS, DEVICE, MEMBERS, Member},
};

/// The file's name within the data directory.
pub const FILE: &str = "sandbox.json";

#[derive(Serialize, Deserialize)]
pub struct Directory {
    /// The FHIR base of the running (or last) start, without a last slash.
    pub base_url: String,
    /// Marks the database that belongs to this file.
    pub seed: String,
    organizations: Vec<Listed>,
    users: Vec<ListedUser>,
    pub examples: Examples,
    uploadable: Vec<Uploadable>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    ods: String,
    name: String,
    role: Role,
    care_setting: Option<CareSetting>,
}

#[derive(Serialize, Deserialize)]
struct ListedUser {
    id: String,
    name: String,
    role: Role,
    organization: String,
}

/// Children to try things out with, by NHS number.
#[derive(Serialize, Deserialize)]
pub struct Examples {
    pub active_plan: NhsNumber,
    pub no_record: NhsNumber,
    pub two_authorities: NhsNumber,
    pub cpp_and_lac: NhsNumber,
    pub unborn: NhsNumber,
    pub many_accesses: NhsNumber,
    pub ended_visible: NhsNumber,
    pub ended_hidden: NhsNumber,
}

/// Somebody of the register without a plan.
#[derive(Serialize, Deserialize)]
struct Uploadable {
    nhs_number: NhsNumber,
    family: String,
    /// Given names, separated by spaces.
    given: String,
    birth_date: NaiveDate,
}

impl From<&Person> for Uploadable {
    fn from(person: &Person) -> Self {
        let known = &person.demographics;
        Self {
            nhs_number: person.number,
            family: known.family.clone(),
            given: known.given.join(" "),
            birth_date: known.birth_date,
        }
    }
}

impl Directory {
    /// # Errors
    /// When the population lacks somebody whom the file names.
    pub fn of(everybody: &Population, seed: &str, base_url: String) -> anyhow::Result<Self> {
        let known = |which| everybody.known(which).map(|child| child.person.number).context("a child is missing");
        // The last one: whoever tries uploads begins with the first.
        let no_record = everybody.without_plan.last().context("nobody is without a plan")?.number;
        let organizations = MEMBERS.iter().map(|member| Listed {
            ods: member.ods.to_owned(),
            name: member.name.to_owned(),
            role: member.role,
            care_setting: member.care_setting,
        });
        let users = ACTORS.iter().filter_map(|actor| {
            Some(ListedUser {
                id: actor.id.to_owned(),
                name: actor.name.to_owned(),
                role: Member::find(actor.organization)?.role,
                organization: actor.organization.to_owned(),
            })
        });
        let device = ListedUser {
            id: DEVICE.id.to_owned(),
            name: DEVICE.name.to_owned(),
            role: Role::Clinical,
            organization: DEVICE.organization.to_owned(),
        };
        Ok(Self {
            base_url,
            seed: seed.to_owned(),
            organizations: organizations.collect(),
            users: users.chain([device]).collect(),
            examples: Examples {
                active_plan: known(Known::ActivePlan)?,
                no_record,
                two_authorities: known(Known::TwoAuthorities)?,
                cpp_and_lac: known(Known::CppAndLac)?,
                unborn: known(Known::Unborn)?,
                many_accesses: known(Known::ManyAccesses)?,
                ended_visible: known(Known::EndedVisible)?,
                ended_hidden: known(Known::EndedHidden)?,
            },
            uploadable: everybody.without_plan.iter().map(Uploadable::from).collect(),
        })
    }

    /// The file of a finished sandbox; `None` when there is none, or none that can be read.
    ///
    /// # Errors
    /// When the file is there and the file system fails.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(data_dir.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file in the place of any other, durable when this returns.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let draft = data_dir.join(format!(".{FILE}.{}", uuid::Uuid::new_v4()));
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let written = fs::File::create_new(&draft)
            .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&draft, data_dir.join(FILE)))
            .and_then(|()| fs::File::open(data_dir)?.sync_all());
        if written.is_err() {
            // The draft of a failed write is of no use to anybody; that it stays changes nothing.
            let _left = fs::remove_file(&draft);
        }
        written.with_context(|| format!("{FILE} can't be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_promised_shape() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Directory::read(directory.path()).unwrap().is_none());
        let everybody = Population::on("2026-11-23".parse().unwrap());
        let written = Directory::of(&everybody, "seed-1", "http://127.0.0.1:8080/cpis/FHIR/R4".to_owned()).unwrap();
        written.write(directory.path()).unwrap();
        written.write(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(Directory::read(directory.path()).unwrap().unwrap().seed, "seed-1");

        let json: serde_json::Value = serde_json::from_slice(&fs::read(directory.path().join(FILE)).unwrap()).unwrap();
        assert_eq!(json["base_url"], "http://127.0.0.1:8080/cpis/FHIR/R4");
        let hospital = json["organizations"].as_array().unwrap().iter().find(|o| o["ods"] == "ZZ101").unwrap();
        assert_eq!((&hospital["role"], &hospital["care_setting"]), (&"clinical".into(), &"unscheduled".into()));
        assert_eq!(json["users"][0]["organization"], "ZZ101");
        assert_eq!(json["uploadable"].as_array().unwrap().len(), 30);
        assert_eq!(json["examples"]["no_record"], json["uploadable"][29]["nhs_number"]);
        assert!(json["examples"]["active_plan"].as_str().unwrap().starts_with("999"));
    }

    #[test]
    fn half_a_file_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"base_url\": ").unwrap();
        assert!(Directory::read(directory.path()).unwrap().is_none());
    }
}
