//! What the histories of plans, children and organisations share: the versions that count, and how a page of them is read.
//!
//! Each version has a number, `id`, given in the order of recording and under a lock (the authority's, or one for all
//! organisations), and no version is recorded at an instant before that of the number below it. So a page is a walk down an
//! index from a number, and an instant is a bound on the numbers: what a page costs depends neither on how long the history
//! is nor on the clock. What is recorded while somebody pages lies above every cursor and moves nothing.

use super::{Conn, StoreError, child, plan};
use crate::cpis::types::history::{HistoryAsked, HistoryPage};

/// The most versions that one page looks at; a page of those current at some point may so be short and have a next one.
const MOST_SEEN: usize = 1000;

/// From the first number to the last, both included; empty when they are the other way round.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub first: i64,
    pub last: i64,
}

impl Span {
    pub fn new(asked: &HistoryAsked) -> Self {
        let below = asked.below.map_or(i64::MAX, |below| below.saturating_sub(1));
        Self { first: i64::MIN, last: asked.top.map_or(below, |top| top.min(below)) }
    }

    #[must_use]
    pub fn from(self, first: i64) -> Self {
        Self { first: self.first.max(first), ..self }
    }

    #[must_use]
    pub fn up_to(self, last: i64) -> Self {
        Self { last: self.last.min(last), ..self }
    }
}

/// The versions of a table that count: of no upload, or of one that is applied (design 6, staging).
macro_rules! counting {
    ($version:ident) => {
        $version::table.left_join($crate::store::schema::upload::table).filter(
            $version::upload_id.is_null().or($crate::store::schema::upload::state.eq($crate::store::upload::APPLIED)),
        )
    };
    // As an upload sees them while it is judged: its own versions too.
    ($version:ident, to $upload:expr) => {
        $version::table.left_join($crate::store::schema::upload::table).filter(
            $version::upload_id
                .is_null()
                .or($crate::store::schema::upload::state.eq($crate::store::upload::APPLIED))
                .or($version::upload_id.eq($upload)),
        )
    };
}

/// The key of no upload: to it only those versions count that count for everybody.
pub(super) const NO_UPLOAD: i64 = 0;

/// Reads the histories of a table of versions, whose rows the file's own `recorded` turns into `$content`: `at` one version,
/// `history` a page of one `$owner`, numbered by version, with the total of all pages; `of_type` a page of the rows of a
/// scope, numbered by `id`, below the number at which they are settled.
macro_rules! histories {
    (
        $version:ident by $owner:ident, $row:ty => $content:ty,
        all: $all:expr,
        of_type: |$scope:ident: $scope_type:ty| $of_type:expr
    ) => {
        /// One version.
        ///
        /// # Errors
        /// [`StoreError`] when the database fails.
        pub fn at(conn: &mut Conn, owner: i64, number: i64) -> Result<Option<Recorded<$content>>, StoreError> {
            let row: Option<$row> = $all
                .filter($version::$owner.eq(owner).and($version::version.eq(number)))
                .select(<$row>::as_select())
                .first(conn)
                .optional()?;
            Ok(recorded(conn, row.into_iter().collect(), |row| row.version)?.pop())
        }

        /// A page of the versions of one, numbered by version, and how many there are in all pages.
        ///
        /// # Errors
        /// [`StoreError`] when the database fails.
        pub fn history(
            conn: &mut Conn,
            owner: i64,
            asked: &HistoryAsked,
        ) -> Result<(HistoryPage<Recorded<$content>>, i64), StoreError> {
            let whole = HistoryAsked { below: None, ..*asked };
            let rows = || $all.filter($version::$owner.eq(owner));
            let mut span = $crate::store::history::span!(conn, rows(), $version::version, $version::recorded_ms, whole);
            if let Some(from) = asked.from_ms {
                // Versions follow each other: the one that was current then is the first.
                let first = rows().filter($version::recorded_ms.le(from)).order($version::version.desc());
                span = span.from(first.select($version::version).first::<i64>(conn).optional()?.unwrap_or(i64::MIN));
            }
            let total = rows().filter($version::version.between(span.first, span.last)).count().get_result(conn)?;
            let load = |conn: &mut Conn, span: Span, limit: i64| {
                let rows = rows().filter($version::version.between(span.first, span.last));
                Ok(rows.order($version::version.desc()).limit(limit).select(<$row>::as_select()).load::<$row>(conn)?)
            };
            let span = span.up_to(Span::new(asked).last);
            let page = walk(conn, asked, span, |row: &$row| row.version, load, |_, _| Ok(true))?;
            Ok((HistoryPage { versions: recorded(conn, page.versions, |row| row.version)?, next: page.next }, total))
        }

        fn of_type(
            conn: &mut Conn,
            $scope: $scope_type,
            settled_below: i64,
            asked: &HistoryAsked,
        ) -> Result<HistoryPage<$row>, StoreError> {
            let span = $crate::store::history::span!(conn, $of_type, $version::id, $version::recorded_ms, asked);
            let load = |conn: &mut Conn, span: Span, limit: i64| {
                let rows = $of_type.filter($version::id.between(span.first, span.last));
                Ok(rows.order($version::id.desc()).limit(limit).select(<$row>::as_select()).load::<$row>(conn)?)
            };
            let was_current = |conn: &mut Conn, row: &$row| match asked.from_ms {
                None => Ok(true),
                Some(from) => Ok(!is_followed(conn, row, from)?),
            };
            walk(conn, asked, span.up_to(settled_below.saturating_sub(1)), |row: &$row| row.id, load, was_current)
        }

        /// Whether there is a later version, recorded by this millisecond.
        fn is_followed(conn: &mut Conn, row: &$row, by_ms: i64) -> Result<bool, StoreError> {
            let later = $version::version.gt(row.version).and($version::recorded_ms.le(by_ms));
            let later = $all.filter($version::$owner.eq(row.$owner)).filter(later).select($version::id);
            Ok(later.first::<i64>(conn).optional()?.is_some())
        }
    };
}

/// The span of the numbers of `$rows` that were recorded in the instants asked for.
macro_rules! span {
    ($conn:expr, $rows:expr, $number:expr, $recorded:expr, $asked:expr) => {{
        let mut span = Span::new(&$asked);
        if let Some(since) = $asked.since_ms {
            let rows = $rows.filter($recorded.ge(since)).order(($recorded.asc(), $number.asc()));
            span = span.from(rows.select($number).first::<i64>($conn).optional()?.unwrap_or(i64::MAX));
        }
        if let Some(before) = $asked.before_ms {
            let rows = $rows.filter($recorded.lt(before)).order(($recorded.desc(), $number.desc()));
            span = span.up_to(rows.select($number).first::<i64>($conn).optional()?.unwrap_or(i64::MIN));
        }
        span
    }};
}

/// The number below which all rows of an authority count or never will. An upload that is staged may yet be applied; while
/// it is, nothing above it is shown, so that nobody pages or polls past what then counts. One change of an authority is
/// made at a time, so there is nothing above it that counts, unless that rule is broken.
macro_rules! settled_below {
    ($conn:expr, $version:ident, $authority:expr) => {{
        use $crate::store::schema::upload;
        let staged = upload::authority_id.eq($authority).and(upload::state.eq($crate::store::upload::STAGED));
        let rows = $version::table.inner_join(upload::table).filter(staged);
        rows.select(diesel::dsl::min($version::id)).first::<Option<i64>>($conn)?.unwrap_or(i64::MAX)
    }};
}

pub(super) use {counting, histories, settled_below, span};

/// A page of the rows of a span, newest first: those that `keep` takes. `load` gives the newest rows of a span.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) fn walk<R>(
    conn: &mut Conn,
    asked: &HistoryAsked,
    mut span: Span,
    number: impl Fn(&R) -> i64,
    load: impl Fn(&mut Conn, Span, i64) -> Result<Vec<R>, StoreError>,
    keep: impl Fn(&mut Conn, &R) -> Result<bool, StoreError>,
) -> Result<HistoryPage<R>, StoreError> {
    let chunk = i64::try_from(asked.limit).unwrap_or(i64::MAX).saturating_add(1);
    let (mut versions, mut seen) = (Vec::new(), 0);
    while asked.limit > 0 && span.first <= span.last {
        let rows = load(conn, span, chunk)?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < chunk;
        for row in rows {
            if versions.len() >= asked.limit || seen >= MOST_SEEN {
                return Ok(HistoryPage { versions, next: Some(number(&row).saturating_add(1)) });
            }
            span.last = number(&row).saturating_sub(1);
            seen += 1;
            if keep(conn, &row)? {
                versions.push(row);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(HistoryPage { versions, next: None })
}

/// What the versions that one change of an authority adds have in common.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    pub authority: i64,
    /// Key of the upload; none of a version by the system.
    pub upload: Option<i64>,
    /// Milliseconds since 1970.
    pub recorded_ms: i64,
}

impl Recording {
    /// To be asked under the lock of the authority. The versions are recorded now, or when its newest one was, if a clock
    /// has gone back since.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub fn begin(conn: &mut Conn, authority: i64, upload: i64, now_ms: i64) -> Result<Self, StoreError> {
        Ok(Self { upload: Some(upload), ..Self::by_system(conn, authority, now_ms)? })
    }

    /// [`Recording::begin`] of versions that no upload brought: they count at once.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub fn by_system(conn: &mut Conn, authority: i64, now_ms: i64) -> Result<Self, StoreError> {
        let newest = plan::last_recorded(conn, authority)?.max(child::last_recorded(conn, authority)?);
        let recorded_ms = newest.map_or(now_ms, |newest| newest.max(now_ms));
        Ok(Self { authority, upload: None, recorded_ms })
    }
}
