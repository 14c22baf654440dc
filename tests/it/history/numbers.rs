//! How versions are numbered, whatever uploads, clocks and migrations do: what is shown is settled, in order, and bounded.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{all_pages, end, later, rename, versions, with_child, with_plan};
use crate::harness::{Backend, CPP, LAC, Reply, child, on_both_stores};

on_both_stores! {
    async fn what_is_not_applied_does_not_exist(backend) {
        let app = with_child(backend).await;
        let own = app.authority("Z9A");
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        later(&app, 1);
        end(&app, &path, "2026-11-20").await;
        let other = with_plan(&app, LAC, "2026-10-01", None).await;
        let staged = "update upload set state = 'staged' where id = (select upload_id from plan_version where version = 2)";
        app.execute(staged);
        assert_eq!(versions(&own.get(&format!("{path}/_history")).await), [1]);
        assert_eq!(own.get(&format!("{path}/_history")).await.total(), 1);
        own.get(&format!("{path}/_history/2")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        assert_eq!(own.get(&format!("{path}/_history/1")).await.json["period"], json!({"start": "2026-09-14"}));
        assert_eq!(own.get(&path).await.header("etag"), "W/\"1\"");
        // What was recorded after a change that may yet count waits for it: whoever follows the history misses nothing.
        let waiting = own.get("/Flag/_history?_count=1").await;
        assert_eq!((versions(&waiting), waiting.next_page()), (vec![1], None));
        assert!(!waiting.text.contains(&other[1..]));
        app.execute("update upload set state = 'applied'");
        let (settled, _) = all_pages(&app, "/Flag/_history?_count=1").await;
        let expected = [(other.as_str(), 1), (&path, 2), (&path, 1)].map(|(path, version)| (format!("{}{path}", app.base), version));
        assert_eq!(settled, expected);
        // One that will never count holds nothing back.
        app.execute(&staged.replace("'staged'", "'discarded'"));
        let (settled, _) = all_pages(&app, "/Flag/_history?_count=1").await;
        assert_eq!(settled, [expected[0].clone(), expected[2].clone()]);
        own.get(&format!("{path}/_history/2")).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");

        // The same of a child of which nothing counts.
        app.execute("update upload set state = 'staged'");
        for path in [format!("/Patient/{}/_history", child(1).nhs()), format!("/Patient/{}/_history/1", child(1).nhs())] {
            own.get(&path).await.assert_refused(404, "not-found", "RESOURCE_NOT_FOUND");
        }
        assert_eq!(versions(&own.get("/Patient/_history").await), Vec::<i64>::new());
    }

    /// An instant is a bound on the numbers, so a clock that goes back must not put a version before an older one.
    async fn a_clock_that_goes_back_leaves_the_order_as_it_is(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        app.clock.advance(TimeDelta::seconds(-30));
        end(&app, &path, "2026-11-20").await;
        app.clock.advance(TimeDelta::seconds(40));
        end(&app, &path, "2026-11-21").await;
        let own = app.authority("Z9A");
        let times = |reply: &Reply| -> Vec<Value> {
            reply.json["entry"].as_array().unwrap().iter().map(|entry| entry["response"]["lastModified"].clone()).collect()
        };
        let history = own.get(&format!("{path}/_history")).await;
        assert_eq!(times(&history), ["2026-11-23T12:00:10.000Z", "2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00.000Z"]);
        for (query, expected) in [
            ("_since=2026-11-23T12:00:00Z", vec![3, 2, 1]),
            ("_since=2026-11-23T12:00:01Z", vec![3]),
            ("_at=2026-11-23T12:00:05Z", vec![2]),
        ] {
            for history in [format!("{path}/_history"), "/Flag/_history".to_owned()] {
                assert_eq!(versions(&own.get(&format!("{history}?{query}")).await), expected, "{history} {query}");
            }
        }
    }

    /// A page of those current at some time looks at a bounded number of versions: it may be short, and the next goes on.
    async fn a_page_looks_at_so_many_versions_and_no_more(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, LAC, "2026-09-14", None).await;
        later(&app, 1);
        let busy = with_plan(&app, CPP, "2026-09-14", None).await;
        later(&app, 1);
        app.execute(&format!(
            "insert into plan_version (plan_id, version, authority_id, upload_id, start_date, end_date, local_id, deleted, recorded_ms)
             with recursive n(n) as (select 2 union all select n + 1 from n where n < 1400)
             select v.plan_id, n.n, v.authority_id, v.upload_id, v.start_date, v.end_date, v.local_id, v.deleted, {}
             from plan_version v join plan p on p.id = v.plan_id, n where p.uuid = '{}' order by n.n",
            app.clock.now().timestamp_millis(), busy.rsplit('/').next().unwrap()
        ));
        later(&app, 1000);
        let first = app.authority("Z9A").get("/Flag/_history?_at=2027&_count=2").await;
        assert_eq!(versions(&first), [1400]);
        let (found, pages) = all_pages(&app, "/Flag/_history?_at=2027&_count=2").await;
        let expected = [(busy, 1400), (path, 1)].map(|(path, version)| (format!("{}{path}", app.base), version));
        assert_eq!((found, pages), (expected.to_vec(), 2));
    }

    /// Rows that were there before versions were numbered are numbered in the order of recording.
    async fn the_migration_keeps_every_version(backend) {
        let app = with_child(backend).await;
        let path = with_plan(&app, CPP, "2026-09-14", None).await;
        later(&app, 1);
        end(&app, &path, "2026-11-20").await;
        later(&app, 1);
        rename(&app, "Sam").await;
        let other = with_plan(&app, LAC, "2026-10-01", None).await;
        let paths = ["/Flag/_history".to_owned(), "/Patient/_history".to_owned(), format!("{path}/_history"), format!("{other}/_history")];
        let mut before = Vec::new();
        for path in &paths {
            before.push(app.authority("Z9A").get(path).await.json);
        }
        // The later migration that widened these tables is taken back first, and made again.
        let migrations = match backend {
            Backend::Sqlite => [
                include_str!("../../../migrations/sqlite/0007_lifecycle/down.sql"),
                include_str!("../../../migrations/sqlite/0002_versions/down.sql"),
                include_str!("../../../migrations/sqlite/0002_versions/up.sql"),
                include_str!("../../../migrations/sqlite/0007_lifecycle/up.sql"),
            ],
            Backend::Postgres => [
                include_str!("../../../migrations/postgres/0007_lifecycle/down.sql"),
                include_str!("../../../migrations/postgres/0002_versions/down.sql"),
                include_str!("../../../migrations/postgres/0002_versions/up.sql"),
                include_str!("../../../migrations/postgres/0007_lifecycle/up.sql"),
            ],
        };
        for migration in migrations {
            app.execute(&format!("begin; {migration} commit;"));
        }
        let app = app.restart().await;
        for (path, before) in paths.iter().zip(before) {
            let after = app.authority("Z9A").get(path).await;
            assert_eq!(after.json.to_string().replace(&app.base, ""), before.to_string().replace(before_base(&before), ""), "{path}");
        }
        assert_eq!(versions(&app.authority("Z9A").get("/Organization/Z9A/_history").await), [1]);
        later(&app, 1);
        end(&app, &path, "2026-11-21").await;
        assert_eq!(versions(&app.authority("Z9A").get("/Flag/_history").await), [3, 1, 2, 1]);
    }
}

/// The base that a Bundle was made under.
fn before_base(bundle: &Value) -> &str {
    let link = bundle["link"][0]["url"].as_str().expect("a link");
    link.split("/Flag").next().and_then(|link| link.split("/Patient").next()).expect("a base")
}
