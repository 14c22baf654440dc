//! The two migrated schemas and `src/store/schema.rs` say the same: tables, columns, types, keys, indexes, references.
//!
//! Differences that are meant are listed here, each with its reason; any other fails.

use std::collections::{BTreeMap, BTreeSet};

use cpis_gateway::store::Conn;
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Bool, Integer, Nullable, Text},
};

use crate::harness::{Backend, TestApp, on_both_stores};

/// What Diesel keeps of the migrations; made by Diesel itself.
const NOT_OURS: [&str; 1] = ["__diesel_schema_migrations"];

/// PostgreSQL's audit table is partitioned by month, and the key of a partitioned table must hold the month. SQLite has
/// no partitions, and only a key that is one integer gets its number by itself there.
const AUDIT_KEYS: (&str, &[&str], &[&str]) = ("audit_event", &["id"], &["month", "id"]);

#[derive(Debug, PartialEq, Eq)]
struct Column {
    /// Diesel's name of the type.
    kind: String,
    nullable: bool,
}

/// (columns in order, unique, predicate).
type Index = (Vec<String>, bool, String);

#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    columns: BTreeMap<String, Column>,
    key: Vec<String>,
    indexes: BTreeSet<Index>,
    /// (column, table, column there).
    references: BTreeSet<(String, String, String)>,
}

type Tables = BTreeMap<String, Table>;

/// One name for the type that each store spells in its own way.
fn diesel_type(declared: &str) -> String {
    let name = match declared {
        "bigint" | "int8" => "BigInt",
        "integer" | "int4" => "Integer",
        "text" => "Text",
        "boolean" | "bool" => "Bool",
        "date" => "Date",
        "blob" | "bytea" => "Binary",
        other => panic!("a type that the parity test does not know: {other}"),
    };
    name.to_owned()
}

/// A predicate without the brackets and capitals that PostgreSQL adds.
fn plain(predicate: &str) -> String {
    predicate
        .to_lowercase()
        .replace("::text", "")
        .replace(['(', ')'], "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[derive(QueryableByName)]
struct SqliteTable {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    sql: String,
}

#[derive(QueryableByName)]
struct SqliteColumn {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Bool)]
    not_null: bool,
    #[diesel(sql_type = Integer)]
    place_in_key: i32,
}

#[derive(QueryableByName)]
struct SqliteIndex {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    is_unique: bool,
    #[diesel(sql_type = Text)]
    origin: String,
    #[diesel(sql_type = Nullable<Text>)]
    sql: Option<String>,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    from_column: String,
    #[diesel(sql_type = Text)]
    to_table: String,
    #[diesel(sql_type = Text)]
    to_column: String,
}

impl From<Reference> for (String, String, String) {
    fn from(found: Reference) -> Self {
        (found.from_column, found.to_table, found.to_column)
    }
}

fn of_sqlite(app: &TestApp) -> Tables {
    let Conn::Sqlite(mut conn) = app.connection() else { panic!("a SQLite store") };
    let listed = "select name, sql from sqlite_master where type = 'table' and name not like 'sqlite_%'";
    let listed: Vec<SqliteTable> = sql_query(listed).load(&mut conn).unwrap();
    let mut tables = Tables::new();
    for SqliteTable { name: table, sql } in listed.into_iter().filter(|t| !NOT_OURS.contains(&t.name.as_str())) {
        let columns: Vec<SqliteColumn> = sql_query(format!(
            "select name, lower(type) as kind, \"notnull\" as not_null, pk as place_in_key from pragma_table_info('{table}')"
        ))
        .load(&mut conn)
        .unwrap();
        let mut keys: Vec<(i32, String)> =
            columns.iter().filter(|c| c.place_in_key > 0).map(|c| (c.place_in_key, c.name.clone())).collect();
        keys.sort_unstable();
        let mut built = Table { key: keys.into_iter().map(|(_, name)| name).collect(), ..Table::default() };
        for column in columns {
            // SQLite's own row number is 64 bits wide and never null, whatever it is called.
            let is_row_number = sql.contains(&format!("{} integer primary key autoincrement", column.name));
            let kind = if is_row_number { "BigInt".to_owned() } else { diesel_type(&column.kind) };
            built.columns.insert(column.name, Column { kind, nullable: !column.not_null && !is_row_number });
        }
        let indexes: Vec<SqliteIndex> = sql_query(format!(
            "select l.name as name, l.\"unique\" as is_unique, l.origin as origin, m.sql as sql
             from pragma_index_list('{table}') l join sqlite_master m on m.name = l.name"
        ))
        .load(&mut conn)
        .unwrap();
        for index in indexes.into_iter().filter(|index| index.origin != "pk") {
            let columns: Vec<Name> =
                sql_query(format!("select name from pragma_index_info('{}') order by seqno", index.name))
                    .load(&mut conn)
                    .unwrap();
            let predicate = index.sql.as_deref().and_then(|sql| sql.split_once(" where ")).map_or("", |(_, p)| p);
            let columns = columns.into_iter().map(|c| c.name).collect();
            built.indexes.insert((columns, index.is_unique, plain(predicate)));
        }
        let references: Vec<Reference> = sql_query(format!(
            "select \"from\" as from_column, \"table\" as to_table, \"to\" as to_column
             from pragma_foreign_key_list('{table}')"
        ))
        .load(&mut conn)
        .unwrap();
        built.references = references.into_iter().map(Into::into).collect();
        tables.insert(table, built);
    }
    tables
}

#[derive(QueryableByName)]
struct PostgresColumn {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Bool)]
    not_null: bool,
}

#[derive(QueryableByName)]
struct PostgresIndex {
    #[diesel(sql_type = Text)]
    columns: String,
    #[diesel(sql_type = Bool)]
    is_unique: bool,
    #[diesel(sql_type = Bool)]
    is_key: bool,
    #[diesel(sql_type = Nullable<Text>)]
    predicate: Option<String>,
}

fn of_postgres(app: &TestApp) -> Tables {
    let Conn::Postgres(mut conn) = app.connection() else { panic!("a PostgreSQL store") };
    // The partitions of a table are part of it.
    let listed: Vec<Name> = sql_query(
        "select relname::text as name from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition",
    )
    .load(&mut conn)
    .unwrap();
    let mut tables = Tables::new();
    for Name { name: table } in listed.into_iter().filter(|t| !NOT_OURS.contains(&t.name.as_str())) {
        let columns: Vec<PostgresColumn> = sql_query(format!(
            "select attname::text as name, format_type(atttypid, atttypmod) as kind, attnotnull as not_null
             from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped"
        ))
        .load(&mut conn)
        .unwrap();
        let mut built = Table::default();
        for column in columns {
            let kind = diesel_type(&column.kind);
            built.columns.insert(column.name, Column { kind, nullable: !column.not_null });
        }
        let indexes: Vec<PostgresIndex> = sql_query(format!(
            "select (select string_agg(a.attname::text, ',' order by k.place)
                     from unnest(i.indkey::int2[]) with ordinality k(number, place)
                     join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number) as columns,
                    i.indisunique as is_unique, i.indisprimary as is_key, pg_get_expr(i.indpred, i.indrelid) as predicate
             from pg_index i where i.indrelid = '{table}'::regclass"
        ))
        .load(&mut conn)
        .unwrap();
        for index in indexes {
            let columns: Vec<String> = index.columns.split(',').map(str::to_owned).collect();
            if index.is_key {
                built.key = columns;
            } else {
                built.indexes.insert((columns, index.is_unique, plain(index.predicate.as_deref().unwrap_or_default())));
            }
        }
        let references: Vec<Reference> = sql_query(format!(
            "select a.attname::text as from_column, f.relname::text as to_table, b.attname::text as to_column
             from pg_constraint c join pg_class f on f.oid = c.confrelid
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
             join pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1]
             where c.contype = 'f' and c.conrelid = '{table}'::regclass"
        ))
        .load(&mut conn)
        .unwrap();
        built.references = references.into_iter().map(Into::into).collect();
        tables.insert(table, built);
    }
    tables
}

/// The `table!` blocks of `src/store/schema.rs`: name, key, columns in order of their names.
fn of_diesel() -> BTreeMap<String, (Vec<String>, BTreeMap<String, Column>)> {
    let source = include_str!("../../src/store/schema.rs");
    let mut tables = BTreeMap::new();
    for block in source.split("diesel::table! {").skip(1) {
        let block = block.split("\n}").next().unwrap();
        let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let (name, key) = lines.next().unwrap().split_once(" (").unwrap();
        let key = key.trim_end_matches(") {").split(", ").map(str::to_owned).collect();
        let mut columns = BTreeMap::new();
        for line in lines.filter(|line| line.contains("->")) {
            let (column, kind) = line.trim_end_matches(',').split_once(" -> ").unwrap();
            let inner = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            let column_kind = Column { kind: inner.unwrap_or(kind).to_owned(), nullable: inner.is_some() };
            columns.insert(column.to_owned(), column_kind);
        }
        tables.insert(name.to_owned(), (key, columns));
    }
    tables
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[actix_web::test]
async fn both_stores_have_the_same_schema() {
    let (mut sqlite, postgres) =
        (of_sqlite(&TestApp::start(Backend::Sqlite).await), of_postgres(&TestApp::start(Backend::Postgres).await));
    let (table, on_sqlite, on_postgres) = AUDIT_KEYS;
    assert_eq!(sqlite[table].key, strings(on_sqlite));
    assert_eq!(postgres[table].key, strings(on_postgres));
    sqlite.get_mut(table).unwrap().key = strings(on_postgres);

    assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    for (name, table) in &sqlite {
        assert_eq!(table, &postgres[name], "table {name}: SQLite left, PostgreSQL right");
    }
    assert!(sqlite.len() >= 20, "{:?}", sqlite.keys());
}

#[actix_web::test]
async fn the_code_knows_the_schema_as_it_is() {
    let postgres = of_postgres(&TestApp::start(Backend::Postgres).await);
    let diesel = of_diesel();

    assert_eq!(diesel.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    for (name, (key, columns)) in &diesel {
        assert_eq!(key, &postgres[name].key, "the key of {name}");
        assert_eq!(columns, &postgres[name].columns, "table {name}");
    }
}

/// Nothing may refer to the audit: it is purged and moved by itself (design 5).
#[actix_web::test]
async fn nothing_has_a_foreign_key_into_the_audit() {
    for tables in
        [of_sqlite(&TestApp::start(Backend::Sqlite).await), of_postgres(&TestApp::start(Backend::Postgres).await)]
    {
        for (name, table) in &tables {
            let into_audit = table.references.iter().any(|(_, to, _)| to.starts_with("audit_"));
            assert!(!into_audit, "{name}: {:?}", table.references);
        }
    }
}

/// The months ahead have partitions, and one takes what has none (design 11).
#[actix_web::test]
async fn the_audit_is_partitioned_two_years_ahead() {
    let app = TestApp::start(Backend::Postgres).await;
    let partitions = "select count(*) as n from pg_inherits where inhparent = 'audit_event'::regclass";
    assert_eq!(app.number(partitions), 26, "25 months and the default");
    app.clock.set("2031-01-01T00:00:00Z".parse().unwrap());
    app.clinician().get(&crate::harness::child(1).care_team()).await;
    assert_eq!(app.number("select count(*) as n from audit_event_default"), 1);
}

on_both_stores! {
    async fn a_database_is_migrated_when_all_that_is_known_is_applied(backend) {
        let app = TestApp::start(backend).await;
        let location = app.app.gateway.store.location();
        assert!(location.is_migrated().unwrap());
        app.execute("insert into __diesel_schema_migrations (version) values ('9999')");
        assert!(location.is_migrated().unwrap(), "later ones are tolerated");
        app.execute("delete from __diesel_schema_migrations where version <> '9999'");
        assert!(!location.is_migrated().unwrap());
        app.execute("drop table __diesel_schema_migrations");
        assert!(!location.is_migrated().unwrap());
    }
}
