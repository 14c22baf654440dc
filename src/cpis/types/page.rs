//! Where a page of many rows begins.

/// After a row or before it, in the order of the search. Rows are then read from there on, the nearest first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Place<K> {
    After(K),
    Before(K),
}

impl<K> Place<K> {
    /// The key itself, and whether rows before it are meant.
    pub fn key(&self) -> (&K, bool) {
        match self {
            Self::After(key) => (key, false),
            Self::Before(key) => (key, true),
        }
    }
}
