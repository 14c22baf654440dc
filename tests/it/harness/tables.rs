//! What the database holds, past every view: row counts, and the columns in which a text is found.

use std::collections::BTreeMap;

use cpis_gateway::store::{Conn, StoreError};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Text},
};

use super::TestApp;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Bool)]
    is_binary: bool,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

const SQLITE_COLUMNS: &str = "select m.name as table_name, p.name as column_name, p.type = 'BLOB' as is_binary \
    from sqlite_master m join pragma_table_info(m.name) p where m.type = 'table' and m.name not like 'sqlite_%'";

// The partitions of the audit are seen through the table that they belong to.
const POSTGRES_COLUMNS: &str = "select table_name::text, column_name::text, data_type = 'bytea' as is_binary \
    from information_schema.columns where table_schema = 'public' and table_name !~ '^audit_event_'";

fn columns(conn: &mut Conn) -> Result<Vec<Column>, StoreError> {
    Ok(match conn {
        Conn::Sqlite(c) => sql_query(SQLITE_COLUMNS).load(c)?,
        Conn::Postgres(c) => sql_query(POSTGRES_COLUMNS).load(c)?,
    })
}

fn count(conn: &mut Conn, query: String) -> Result<i64, StoreError> {
    let count: Count = match conn {
        Conn::Sqlite(c) => sql_query(query).get_result(c)?,
        Conn::Postgres(c) => sql_query(query).get_result(c)?,
    };
    Ok(count.n)
}

/// Rows that every upload adds, whatever becomes of it.
const BOOKKEEPING: &[&str] = &["audit_event", "audit_chain", "audit_checkpoint", "upload", "upload_record", "lease"];

impl TestApp {
    /// Rows of each table.
    pub async fn row_counts(&self) -> BTreeMap<String, i64> {
        self.read(|conn| {
            let mut tables: Vec<String> = columns(conn)?.into_iter().map(|column| column.table_name).collect();
            tables.sort();
            tables.dedup();
            let rows =
                |table: String| Ok((table.clone(), count(conn, format!("select count(*) as n from \"{table}\""))?));
            tables.into_iter().map(rows).collect()
        })
        .await
    }

    /// [`TestApp::row_counts`] of the tables that an upload may only touch when it has an effect.
    pub async fn effects(&self) -> BTreeMap<String, i64> {
        let mut counts = self.row_counts().await;
        counts.retain(|table, _| !BOOKKEEPING.contains(&table.as_str()));
        counts
    }

    /// The columns, as `table.column`, in which a text is found; without the local register, which is told beforehand.
    /// The text must not hold a quotation mark.
    pub async fn columns_holding(&self, text: &str) -> Vec<String> {
        let text = text.to_owned();
        self.read(move |conn| {
            let mut found = Vec::new();
            for Column { table_name, column_name, is_binary } in columns(conn)? {
                let holds = match conn {
                    Conn::Sqlite(_) => format!("instr(cast(\"{column_name}\" as blob), cast('{text}' as blob)) > 0"),
                    Conn::Postgres(_) if is_binary => format!("position('{text}'::bytea in \"{column_name}\") > 0"),
                    Conn::Postgres(_) => format!("position('{text}' in \"{column_name}\"::text) > 0"),
                };
                let rows = count(conn, format!("select count(*) as n from \"{table_name}\" where {holds}"))?;
                if rows > 0 && table_name != "register_entry" {
                    found.push(format!("{table_name}.{column_name}"));
                }
            }
            Ok(found)
        })
        .await
    }
}
