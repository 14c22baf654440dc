//! What a history asks for, and a page of one: versions by the numbers in whose order they were recorded.

/// Which versions a history is to hold, newest first.
#[derive(Clone, Copy, Debug)]
pub struct HistoryAsked {
    /// Recorded at this millisecond or later.
    pub since_ms: Option<i64>,
    /// Current at some point from this millisecond on. A version is current from its own instant to that of the next
    /// one; the one that says that a resource was deleted stays so.
    pub from_ms: Option<i64>,
    /// Recorded before this millisecond.
    pub before_ms: Option<i64>,
    /// A further page: the numbers below this one.
    pub below: Option<i64>,
    /// A further page of an instance: the newest version that the first page knew of.
    pub top: Option<i64>,
    /// Most versions of the page; 0 for the total alone.
    pub limit: usize,
}

/// One version of something.
#[derive(Clone, Debug)]
pub struct Recorded<T> {
    /// Its place in the history: the version of an instance, the row of a type.
    pub number: i64,
    /// Whether it is the newest one.
    pub newest: bool,
    pub content: T,
}

/// A page of a history.
#[derive(Clone, Debug)]
pub struct HistoryPage<T> {
    pub versions: Vec<T>,
    /// Where the next page begins, if there is more: as [`HistoryAsked::below`].
    pub next: Option<i64>,
}
