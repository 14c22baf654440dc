//! Refused records are shown to their authority again until a later upload loads them (design 7): on its asking, and by
//! sending the acknowledgement of a file again.

use chrono::TimeDelta;

use super::{
    gateway::{Error, Gateway},
    lifecycle::LifecycleTerms,
    types::{Organization, refusal::OpenRefusal},
};
use crate::store;

/// Files whose acknowledgement one transaction sends again.
const AT_ONCE: i64 = 64;

impl Gateway {
    /// At most `limit` records of an authority that were refused, are still kept and were not loaded since, the oldest upload
    /// first; from the place (key of the upload, position) on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open_refusals(
        &self,
        authority: &Organization,
        after: Option<(i64, i64)>,
        limit: usize,
    ) -> Result<Vec<OpenRefusal>, Error> {
        let (since_ms, _) = self.refusals_between();
        let (authority, limit) = (authority.id, i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(self.store.read(move |conn| store::refusal::open(conn, authority, after, since_ms, limit)).await?)
    }

    /// How many records of all authorities were refused so long ago that they are shown again ([`Limits::remind_days`]), and
    /// not loaded since.
    ///
    /// [`Limits::remind_days`]: super::limits::Limits::remind_days
    ///
    /// # Errors
    /// [`Error`].
    pub async fn overdue_refusals(&self) -> Result<i64, Error> {
        let (since_ms, before_ms) = self.refusals_between();
        Ok(self.store.read(move |conn| store::refusal::count(conn, since_ms, before_ms)).await?)
    }

    /// Since when refused records are kept, and until when they are old enough to be shown again; milliseconds.
    fn refusals_between(&self) -> (i64, i64) {
        let ago = |days: u32| (self.clock.now() - TimeDelta::days(days.into())).timestamp_millis();
        (ago(self.limits.refused_kept_days), ago(self.limits.remind_days))
    }

    /// Sends the acknowledgement of each file once more whose records were refused so many days ago or longer and not loaded
    /// since, and again after as many days; a batch at a time. Returns how many were queued. What came by another
    /// door than MESH is shown on asking only ([`Gateway::open_refusals`]).
    ///
    /// # Errors
    /// [`Error`]; what was queued before it stays so.
    pub async fn show_refusals_again(&self, terms: &LifecycleTerms) -> Result<usize, Error> {
        if self.limits.remind_days == 0 {
            return Ok(0);
        }
        let mut queued = 0;
        loop {
            let (now, terms) = (self.clock.now(), terms.clone());
            let (since_ms, before_ms) = self.refusals_between();
            let find = move |conn: &mut store::Conn| store::refusal::to_show_again(conn, since_ms, before_ms, AT_ONCE);
            if self.store.read(find).await?.is_empty() {
                return Ok(queued);
            }
            let write = self.store.write(Vec::new(), move |tx| {
                if !terms.hold(tx, now)? {
                    return Ok(None);
                }
                let mut again = 0;
                let found = find(tx.conn)?;
                let keys: Vec<i64> = found.iter().map(|(key, ..)| *key).collect();
                store::refusal::mark_shown(tx.conn, &keys, now.timestamp_millis())?;
                for (_, upload, _) in found.iter().filter(|(_, _, over_mesh)| *over_mesh) {
                    again += usize::from(store::mesh::message::send_reply_again(tx.conn, *upload, now)?);
                }
                Ok(Some(again))
            });
            match write.await? {
                Some(again) => queued += again,
                None => return Ok(queued),
            }
        }
    }
}
