//! Versions and histories of what an authority owns, and of organisations, which belong to everybody (design 2 and 3).
//! A version whose upload is not applied does not exist, and neither does another authority's.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    own_record::{own_child, own_plan},
    types::{
        NhsNumber, OdsCode, Organization, ShownPlan,
        child::AuthorityChild,
        history::{HistoryAsked, HistoryPage, Recorded},
    },
};
use crate::store::{self, Conn, StoreError, plan::ChildPlan};

/// One resource that has versions.
#[derive(Clone, PartialEq, Eq)]
pub enum Versioned {
    Flag(Uuid),
    Patient(NhsNumber),
    Organization(OdsCode),
}

/// All resources of a type that has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionedType {
    Flag,
    Patient,
    Organization,
}

/// What a version holds.
#[derive(Clone, Debug)]
pub enum VersionContent {
    Plan(Box<ShownPlan>),
    Child(Box<AuthorityChild>),
    Organization(Box<Organization>),
}

/// One version as its owner sees it.
#[derive(Clone, Debug)]
pub struct Version {
    /// The moment at which it is judged: now for the newest one, else that at which it was recorded.
    pub as_at: DateTime<Utc>,
    pub content: VersionContent,
}

/// A page of the history of one resource.
#[derive(Clone, Debug)]
pub struct InstanceHistory {
    pub page: HistoryPage<Version>,
    /// Versions of all pages.
    pub total: i64,
    /// The child that it is about.
    pub patient: Option<NhsNumber>,
}

impl Version {
    /// The number of the version within its resource.
    pub fn version(&self) -> i64 {
        match &self.content {
            VersionContent::Plan(shown) => shown.plan.version,
            VersionContent::Child(child) => child.version,
            VersionContent::Organization(organization) => organization.version,
        }
    }

    pub fn recorded(&self) -> DateTime<Utc> {
        match &self.content {
            VersionContent::Plan(shown) => shown.plan.recorded,
            VersionContent::Child(child) => child.recorded,
            VersionContent::Organization(organization) => organization.updated,
        }
    }

    /// True of the version that says that its resource was deleted.
    pub fn deleted(&self) -> bool {
        matches!(&self.content, VersionContent::Plan(shown) if shown.plan.deleted)
    }

    /// The child that it is about.
    pub fn patient(&self) -> Option<NhsNumber> {
        match &self.content {
            VersionContent::Plan(shown) => Some(shown.nhs_number),
            VersionContent::Child(child) => Some(child.nhs_number),
            VersionContent::Organization(_) => None,
        }
    }
}

impl Gateway {
    /// One version of a resource; `None` when there is none that `authority` may know of.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn version(
        &self,
        authority: &Organization,
        of: Versioned,
        number: i64,
    ) -> Result<Option<Version>, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| match of {
            Versioned::Flag(id) => {
                let Some((held, child)) = own_plan(conn, &authority, id)? else { return Ok(None) };
                let version = store::plan::at(conn, held.key, number)?;
                version.map(|version| gateway.plan_version(conn, &authority, &child, version)).transpose()
            }
            Versioned::Patient(nhs_number) => {
                let Some(child) = own_child(conn, &authority, &nhs_number)? else { return Ok(None) };
                Ok(store::child::at(conn, child.id, number)?.map(|version| gateway.child_version(version)))
            }
            Versioned::Organization(ods) => {
                let Some(organization) = store::organization::find(conn, &ods)? else { return Ok(None) };
                let version = store::organization::at(conn, organization.id, number)?;
                Ok(version.map(|version| gateway.organization_version(version)))
            }
        });
        Ok(read.await?)
    }

    /// A page of the versions of a resource, a deleted one included, newest first; `None` when there is none that
    /// `authority` may know of.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn history(
        &self,
        authority: &Organization,
        of: Versioned,
        asked: HistoryAsked,
    ) -> Result<Option<InstanceHistory>, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| match of {
            Versioned::Flag(id) => {
                let Some((held, child)) = own_plan(conn, &authority, id)? else { return Ok(None) };
                let (page, total) = store::plan::history(conn, held.key, &asked)?;
                let page = each(page, |version| gateway.plan_version(conn, &authority, &child, version))?;
                Ok(Some(InstanceHistory { page, total, patient: Some(child.nhs_number) }))
            }
            Versioned::Patient(nhs_number) => {
                let Some(child) = own_child(conn, &authority, &nhs_number)? else { return Ok(None) };
                let (page, total) = store::child::history(conn, child.id, &asked)?;
                let page = each(page, |version| Ok(gateway.child_version(version)))?;
                Ok(Some(InstanceHistory { page, total, patient: Some(nhs_number) }))
            }
            Versioned::Organization(ods) => {
                let Some(organization) = store::organization::find(conn, &ods)? else { return Ok(None) };
                let (page, total) = store::organization::history(conn, organization.id, &asked)?;
                let page = each(page, |version| Ok(gateway.organization_version(version)))?;
                Ok(Some(InstanceHistory { page, total, patient: None }))
            }
        });
        Ok(read.await?)
    }

    /// A page of the versions of all resources of a type that are `authority`'s (organisations: all there are), in the order
    /// of recording, newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn history_of_type(
        &self,
        authority: &Organization,
        of: VersionedType,
        asked: HistoryAsked,
    ) -> Result<HistoryPage<Version>, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| match of {
            VersionedType::Flag => {
                let page = store::plan::history_of(conn, authority.id, &asked)?;
                each(page, |version| {
                    let owned = store::child::get(conn, version.content.child_id)?;
                    let owned = owned.ok_or(StoreError::Corrupt("plan.child_id"))?;
                    gateway.plan_version(conn, &authority, &owned.child, version)
                })
            }
            VersionedType::Patient => {
                let page = store::child::history_of(conn, authority.id, &asked)?;
                each(page, |version| Ok(gateway.child_version(version)))
            }
            VersionedType::Organization => {
                let page = store::organization::history_of(conn, &asked)?;
                each(page, |version| Ok(gateway.organization_version(version)))
            }
        });
        Ok(read.await?)
    }

    /// The status is that of the version's own day, by the birth date as it is known now.
    fn plan_version(
        &self,
        conn: &mut Conn,
        authority: &Organization,
        child: &AuthorityChild,
        version: Recorded<ChildPlan>,
    ) -> Result<Version, StoreError> {
        let as_at = self.as_at(version.newest, version.content.plan.recorded);
        let shown = self.own_on(conn, authority, child, version.content, self.calendar.day_of(as_at))?;
        Ok(Version { as_at, content: VersionContent::Plan(Box::new(shown)) })
    }

    fn child_version(&self, version: Recorded<AuthorityChild>) -> Version {
        let as_at = self.as_at(version.newest, version.content.recorded);
        Version { as_at, content: VersionContent::Child(Box::new(version.content)) }
    }

    fn organization_version(&self, version: Recorded<Organization>) -> Version {
        let as_at = self.as_at(version.newest, version.content.updated);
        Version { as_at, content: VersionContent::Organization(Box::new(version.content)) }
    }

    fn as_at(&self, newest: bool, recorded: DateTime<Utc>) -> DateTime<Utc> {
        if newest { self.clock.now() } else { recorded }
    }
}

fn each<T>(
    page: HistoryPage<Recorded<T>>,
    version: impl FnMut(Recorded<T>) -> Result<Version, StoreError>,
) -> Result<HistoryPage<Version>, StoreError> {
    let versions = page.versions.into_iter().map(version).collect::<Result<_, _>>()?;
    Ok(HistoryPage { versions, next: page.next })
}
