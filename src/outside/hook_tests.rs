//! The rest-hook client against real servers on loopback.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::header, web};
use chrono::TimeZone;

use super::*;

const TIMEOUTS: HookTimeouts = HookTimeouts { connect: Duration::from_secs(5), total: Duration::from_secs(10) };

/// What the server saw of one request.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

struct Hook {
    base: String,
    seen: Log,
    handle: ServerHandle,
}

impl Hook {
    async fn post(&self, path: &str, headers: &[&str]) -> Result<(), HookFault> {
        let headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
        post(&sandbox_client(), &format!("{}{path}", self.base), &headers, b"{}".to_vec()).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn sandbox_client() -> HookClient {
    client(TIMEOUTS)
}

fn client(timeouts: HookTimeouts) -> HookClient {
    HookClient::new(timeouts, Targets::sandbox(&[])).unwrap()
}

/// A client whose name service answers for every name what the table says, call by call.
fn client_where(targets: Targets, answers: &[&[&str]]) -> HookClient {
    let answers: Vec<Vec<SocketAddr>> =
        answers.iter().map(|each| each.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()).collect();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let names: NameService = Arc::new(move |_| {
        let turn = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(answers[turn.min(answers.len() - 1)].clone())
    });
    HookClient::with_names(TIMEOUTS, targets, names).unwrap()
}

async fn post(client: &HookClient, endpoint: &str, headers: &[String], body: Vec<u8>) -> Result<(), HookFault> {
    let signature = [("webhook-id", "n-1".to_owned())];
    let content_type = "application/fhir+json";
    client.post(&Post { endpoint, headers, signature: &signature, content_type, timeout: None }, body).await
}

async fn answer(request: HttpRequest, body: web::Bytes, log: web::Data<Log>) -> HttpResponse {
    let headers = request.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    log.lock().unwrap().push(Seen { path: request.path().to_owned(), headers, body: body.to_vec() });
    let retry = |value: &str| HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, value)).finish();
    match request.path() {
        "/ok" => HttpResponse::Ok().body("a secret answer"),
        "/accepted" => HttpResponse::Accepted().finish(),
        "/huge" => HttpResponse::Ok().streaming(futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(web::Bytes::from_static(&[b'x'; 8192]))
        })),
        "/moved" => HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/ok")).finish(),
        "/busy-seconds" => retry("120"),
        "/busy-date" => HttpResponse::ServiceUnavailable()
            .insert_header((header::DATE, "Sun, 01 Mar 2026 09:00:00 GMT"))
            .insert_header((header::RETRY_AFTER, "Sun, 01 Mar 2026 09:02:00 GMT"))
            .finish(),
        "/busy-nonsense" => retry("soon"),
        "/gone" => HttpResponse::Gone().finish(),
        "/forbidden" => HttpResponse::Forbidden().body("your token is wrong"),
        _ => HttpResponse::InternalServerError().body("a secret trace"),
    }
}

async fn hook() -> Hook {
    let seen: Log = Arc::default();
    let data = web::Data::new(seen.clone());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(answer)))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
    let base = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Hook { base, seen, handle }
}

#[actix_web::test]
async fn a_notification_arrives_as_sent() {
    let hook = hook().await;
    hook.post("/ok?key=1", &["Authorization: Bearer abc:def", "X-Two: 1", "X-Two:2"]).await.unwrap();
    hook.post("/accepted", &[]).await.unwrap();
    let seen = hook.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, b"{}");
    assert_eq!(seen[0].header("content-type"), ["application/fhir+json"]);
    assert_eq!(seen[0].header("content-length"), ["2"]);
    assert_eq!(seen[0].header("authorization"), ["Bearer abc:def"]);
    assert_eq!(seen[0].header("x-two"), ["1", "2"]);
    assert_eq!(seen[0].header("referer"), Vec::<&str>::new());
    assert!(seen[0].header("user-agent")[0].starts_with("cpis-gateway/"));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn an_endless_answer_is_cut_short() {
    let hook = hook().await;
    // Were it read to the end, only the outer limit would end it.
    let patient = HookTimeouts { total: Duration::from_secs(3600), ..TIMEOUTS };
    let client = client(patient);
    let url = format!("{}/huge", hook.base);
    let answer = tokio::time::timeout(Duration::from_secs(20), post(&client, &url, &[], vec![])).await;
    assert_eq!(answer, Ok(Ok(())));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_redirect_is_a_fault_and_not_followed() {
    let hook = hook().await;
    let fault = hook.post("/moved", &[]).await.unwrap_err();
    assert_eq!(fault.status, Some(307));
    assert!(fault.text.contains("redirects are not followed"));
    assert_eq!(hook.seen().iter().map(|s| s.path.as_str()).collect::<Vec<_>>(), ["/moved"]);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn a_busy_endpoint_says_when_to_come_again() {
    let hook = hook().await;
    for (path, after) in
        [("/busy-seconds", Some(120)), ("/busy-date", Some(120)), ("/busy-nonsense", None), ("/broken", None)]
    {
        let fault = hook.post(path, &[]).await.unwrap_err();
        assert_eq!(fault.retry_after, after.map(Duration::from_secs), "{path}");
        assert_eq!(fault.status, Some(if path == "/broken" { 500 } else { 503 }), "{path}");
    }
    assert_eq!(hook.seen().len(), 4, "each was posted once");
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn no_fault_tells_a_secret() {
    let hook = hook().await;
    let secret = "Authorization: Bearer s3cret";
    let plain = hook.base.trim_start_matches("http://").to_owned();
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let client = sandbox_client();
    for endpoint in [
        format!("{}/forbidden/p4th?q=qu3ry", hook.base),
        format!("{}/forbidden?q=qu3ry", hook.base),
        format!("http://{dead}/p4th?q=qu3ry"),
        format!("http://us3r:s3cret@{plain}/p4th?q=qu3ry"),
        format!("https://{plain}/p4th?q=qu3ry"),
        "http://no-such-host.invalid/p4th?q=qu3ry".to_owned(),
        "p4th?q=qu3ry".to_owned(),
    ] {
        let fault = post(&client, &endpoint, &[secret.to_owned()], b"b0dy".to_vec()).await.unwrap_err();
        let text = format!("{fault} {fault:?}");
        for part in ["s3cret", "us3r", "qu3ry", "p4th", "b0dy", "your token", &plain] {
            assert!(!text.contains(part), "{text}");
        }
    }
    let fault = post(&client, &hook.base, &["X: s3cret\r\nY: 1".to_owned()], vec![]).await.unwrap_err();
    assert!(!format!("{fault:?}").contains("s3cret"));
    assert!(hook.seen().iter().all(|s| s.path.starts_with("/forbidden")));
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn an_endpoint_that_never_answers_runs_out_of_time() {
    // The kernel completes the handshake; nobody ever reads.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let timeouts = HookTimeouts { connect: Duration::from_secs(5), total: Duration::from_millis(200) };
    let client = client(timeouts);
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let fault = post(&client, &url, &[], vec![]).await.unwrap_err();
    assert_eq!(fault, HookFault::unsent("the endpoint did not answer within the time allowed"));
}

#[actix_web::test]
async fn a_connection_that_is_refused_or_hangs_is_told_apart() {
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let fault = post(&sandbox_client(), &format!("http://{dead}/"), &[], vec![]).await.unwrap_err();
    assert!(fault.text.contains("refused the connection"), "{fault}");
    // TLS counts as connecting: a server that stays silent in the handshake uses up the connect time.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let timeouts = HookTimeouts { connect: Duration::from_millis(200), total: Duration::from_secs(60) };
    let client = client(timeouts);
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let fault = post(&client, &url, &[], vec![]).await.unwrap_err();
    assert_eq!(fault, HookFault::unsent("no connection to the endpoint within the time allowed"));
}

#[actix_web::test]
async fn a_certificate_of_nobody_is_refused() {
    let seen: Log = Arc::default();
    let data = web::Data::new(seen.clone());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(answer)))
        .workers(1)
        .disable_signals()
        .bind_openssl(("127.0.0.1", 0), self_signed())
        .unwrap();
    let url = format!("https://{}/ok", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let fault = post(&sandbox_client(), &url, &[], b"{}".to_vec()).await.unwrap_err();
    assert!(fault.status.is_none() && fault.text.starts_with("TLS with the endpoint failed"), "{fault}");
    assert!(seen.lock().unwrap().is_empty());
    handle.stop(false).await;
}

fn self_signed() -> openssl::ssl::SslAcceptorBuilder {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, rsa::Rsa, ssl, x509};
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = x509::X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "127.0.0.1").unwrap();
    let name = name.build();
    let mut certificate = x509::X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let mut acceptor = ssl::SslAcceptor::mozilla_intermediate(ssl::SslMethod::tls()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate.build()).unwrap();
    acceptor
}

#[actix_web::test]
async fn outside_the_sandbox_nothing_on_this_machine_is_called() {
    let hook = hook().await;
    let client = HookClient::new(TIMEOUTS, Targets::service(&[])).unwrap();
    let port = hook.base.rsplit(':').next().unwrap();
    for endpoint in [hook.base.clone(), format!("https://127.0.0.1:{port}/ok"), format!("https://localhost:{port}/ok")]
    {
        assert_eq!(post(&client, &endpoint, &[], vec![]).await.unwrap_err().status, None, "{endpoint}");
    }
    assert!(hook.seen().is_empty());
    hook.handle.stop(false).await;
}

/// Whatever a name leads to is judged like an address that is written.
#[actix_web::test]
async fn a_name_that_leads_to_a_forbidden_address_is_not_called() {
    let hook = hook().await;
    let port = hook.base.rsplit(':').next().unwrap();
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["10.0.0.1", "192.168.0.1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["100.64.0.1"],
        &["0.0.0.0"],
        &["224.0.0.1"],
        &["fe80::1"],
        &[],
    ] {
        let client = client_where(Targets::service(&[]), &[answer]);
        let fault = post(&client, &format!("https://hook.example.org:{port}/ok"), &[], vec![]).await.unwrap_err();
        assert_eq!(fault, HookFault::unsent(FORBIDDEN), "{answer:?}");
    }
    assert!(hook.seen().is_empty());
    hook.handle.stop(false).await;
}

/// The first answer is fine, the next leads to this machine: each connection is judged by its own answer.
#[actix_web::test]
async fn a_name_can_not_be_turned_to_another_address_later() {
    let hook = hook().await;
    let port = hook.base.rsplit(':').next().unwrap();
    let mut allowed = Targets::service(&["127.0.0.1".parse().unwrap()]);
    allowed.plain = true;
    let client = client_where(allowed.clone(), &[&["127.0.0.1"], &["127.0.0.2"], &["10.0.0.1", "127.0.0.1"]]);
    let url = format!("http://hook.example.org:{port}/ok");
    post(&client, &url, &[], vec![]).await.unwrap();
    // Another name, so that the open connection is not used again.
    let other = format!("http://other.example.org:{port}/ok");
    assert_eq!(post(&client, &other, &[], vec![]).await, Err(HookFault::unsent(FORBIDDEN)));
    let third = format!("http://third.example.org:{port}/ok");
    post(&client, &third, &[], vec![]).await.unwrap();
    assert_eq!(hook.seen().len(), 2, "of two addresses the allowed one is called");
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn an_endpoint_that_is_gone_says_so() {
    let hook = hook().await;
    let fault = hook.post("/gone", &[]).await.unwrap_err();
    assert!(fault.gone && fault.status == Some(410), "{fault:?}");
    assert!(!hook.post("/broken", &[]).await.unwrap_err().gone);
    hook.handle.stop(false).await;
}

#[actix_web::test]
async fn an_endpoint_may_ask_for_less_time() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let client = client(HookTimeouts { connect: Duration::from_secs(5), total: Duration::from_secs(3600) });
    let endpoint = format!("http://{}/", silent.local_addr().unwrap());
    let timeout = Some(Duration::from_millis(200));
    let content_type = "application/json";
    let asked = Post { endpoint: &endpoint, headers: &[], signature: &[], content_type, timeout };
    let fault = client.post(&asked, vec![]).await.unwrap_err();
    assert_eq!(fault, HookFault::unsent("the endpoint did not answer within the time allowed"));
}

#[test]
fn endpoints() {
    let (service, sandbox) = (Targets::service(&[]), Targets::sandbox(&[]));
    for good in ["https://hooks.example.gov.uk/cpis", "https://8.8.8.8:8443/a?b=c", "https://[2a00:1450::1]/"] {
        assert_eq!(check_endpoint(good, &service), Ok(()), "{good}");
    }
    for sandbox_only in [
        "http://hooks.example.gov.uk/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://[::1]/",
    ] {
        assert!(check_endpoint(sandbox_only, &service).is_err(), "{sandbox_only}");
        assert_eq!(check_endpoint(sandbox_only, &sandbox), Ok(()), "{sandbox_only}");
    }
    for nowhere in [
        "https://0.0.0.0/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://2852039166/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://[64:ff9b::808:808]/",
        "https://10.1.2.3:8443/",
        "https://192.168.0.1/",
        "https://100.64.1.1/",
        "https://224.0.0.1/",
    ] {
        for targets in [&service, &sandbox] {
            assert_eq!(check_endpoint(nowhere, targets), Err(FORBIDDEN), "{nowhere}");
        }
    }
    let allowed = Targets::service(&["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(check_endpoint("https://10.1.2.3:8443/", &allowed), Ok(()));
    let long = format!("https://a.example/{}", "x".repeat(LONGEST_ENDPOINT));
    for never in [
        "",
        "hooks.example.gov.uk",
        "/cpis",
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://user@a.example/",
        "https://user:pass@a.example/",
        "https://:pass@a.example/",
        "https://a.example/#part",
        "https://a.example/#",
        "https://a.example/a b",
        "https://a.exa\nmple/",
        "https:\\\\a.example/",
        &long,
    ] {
        assert!(check_endpoint(never, &sandbox).is_err(), "{never}");
    }
}

#[test]
fn header_lines() {
    let check = |line: &str| check_headers(&[line.to_owned()]);
    for good in ["Authorization: Bearer x", "X-Api-Key:k", "X-Empty:", "x-time: 12:30"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "no colon",
        ": value",
        "Na me: v",
        "Name : v",
        "X: a\r\nY: b",
        "X: a\nb",
        "X\r\nY: b",
        "X: \u{0}",
        "X: caf\u{7f}",
        "Host: a.example",
        "HOST: a.example",
        "Content-Length: 0",
        "Content-Type: text/plain",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Webhook-Signature: v1a,abc",
        "webhook-id: 1",
    ] {
        assert!(check(bad).is_err(), "{bad:?}");
    }
    assert!(format!("{:?}", header_map(&["A: s3cret".to_owned()]).unwrap()).contains("Sensitive"));
}

#[test]
fn retry_after_without_the_answers_date_counts_from_now() {
    let now = Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap();
    let after = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers, now)
    };
    assert_eq!(after("Sun, 01 Mar 2026 09:00:30 GMT"), Some(Duration::from_secs(30)));
    assert_eq!(after("Sun, 01 Mar 2026 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(after("0"), Some(Duration::ZERO));
    for nothing in ["", "-5", "1.5", "99999999999999999999999", "tomorrow"] {
        assert_eq!(after(nothing), None, "{nothing}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn too_many_or_too_long_headers_are_refused() {
    let many: Vec<String> = (0..21).map(|i| format!("X-{i}: a")).collect();
    assert!(check_headers(&many).is_err());
    assert!(check_headers(&many[..20]).is_ok());
    assert!(check_headers(&[format!("X-Long: {}", "a".repeat(8192))]).is_err());
}
