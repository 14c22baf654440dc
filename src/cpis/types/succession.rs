//! What one authority takes over from another.

/// How much moves. Counts of rows; the mailbox by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    pub children: i64,
    /// Those of them that the successor holds too.
    pub held_by_both: i64,
    pub plans: i64,
    pub subscriptions: i64,
    /// Notifications that no channel has been given.
    pub waiting: i64,
    /// MESH messages on their way.
    pub messages: i64,
    pub mailbox: Option<String>,
    /// The successor keeps its own mailbox; the old one is given up.
    pub replaces_mailbox: bool,
    /// Clients of the old authority that are refused from then on.
    pub clients: i64,
}
