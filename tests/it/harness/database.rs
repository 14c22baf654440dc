//! The test's database by a connection of its own: to count what is stored, and to break what the gateway relies on.

use cpis_gateway::store::Conn;
use diesel::{QueryableByName, RunQueryDsl, connection::SimpleConnection, sql_query, sql_types::BigInt};

use super::TestApp;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Rows of everything that a request may store besides the security audit, and the versions of the organisations.
const STORED: &[&str] = &[
    "select count(*) as n from person",
    "select count(*) as n from authority_child_version",
    "select count(*) as n from plan",
    "select count(*) as n from plan_version",
    "select count(*) as n from access",
    "select count(*) as n from access_listing",
    "select count(*) as n from outbox",
    "select count(*) as n from subscription where not deleted",
    "select cast(sum(version) as bigint) as n from organization",
];

impl TestApp {
    /// A number by a query that names it `n`.
    pub fn number(&self, query: &str) -> i64 {
        let conn = &mut self.connection();
        let found: Number = match conn {
            Conn::Sqlite(conn) => sql_query(query).get_result(conn).expect("a number"),
            Conn::Postgres(conn) => sql_query(query).get_result(conn).expect("a number"),
        };
        found.n
    }

    /// What is stored besides the security audit; equal to an earlier answer when nothing was stored since.
    pub fn stored(&self) -> Vec<i64> {
        STORED.iter().map(|query| self.number(query)).collect()
    }

    /// Runs statements as somebody else who has the database open.
    pub fn execute(&self, statements: &str) {
        self.try_execute(statements).expect("the statements run");
    }

    /// [`TestApp::execute`], or what the database says against it.
    pub fn try_execute(&self, statements: &str) -> Result<(), String> {
        self.connection().batch_execute(statements).map_err(|error| error.to_string())
    }

    /// Another connection to the same database.
    pub fn connection(&self) -> Conn {
        self.app.gateway.store.location().connect().expect("another connection")
    }
}
