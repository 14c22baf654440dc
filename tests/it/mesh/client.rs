//! The client alone, against NHS's own sandbox: listing, both ways in chunks and compressed, tracking, certificates.

use std::io::Write;

use chrono::{TimeDelta, Utc};
use cpis_gateway::outside::mesh::{FaultKind, MeshClient, MessageType, Outgoing, SentStatus};
use secrecy::SecretString;
use serde_json::json;

use crate::harness::mesh::{Certificates, Exchange, Mesh, UPLOAD};

/// Bytes that don't shrink much, so that chunks are what they are said to be.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(next).collect()
}

fn outgoing<'a>(to: &'a str, local_id: &'a str) -> Outgoing<'a> {
    Outgoing { to, workflow: UPLOAD, local_id, file_name: "file.xml", content_type: "application/xml" }
}

async fn send(client: &MeshClient, to: &str, local_id: &str, body: &[u8]) -> String {
    client.send(outgoing(to, local_id), body.len() as u64, &mut &body[..]).await.unwrap()
}

#[actix_web::test]
async fn what_is_sent_arrives_whole_in_one_piece_or_many() {
    let exchange = Exchange::new();
    for (length, chunk, chunks) in [(11, 100, "1"), (11, 11, "1"), (40_000, 10_000, "4"), (40_001, 10_000, "5")] {
        let body = noise(length);
        send(&exchange.mesh.client(&exchange.cpis, chunk), &exchange.a, &format!("l{length}"), &body).await;
        let taken = exchange.take(&exchange.a);
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].body.len(), taken[0].chunks.as_str()), (length, chunks));
        assert_eq!(taken[0].body, body);
        assert_eq!((taken[0].workflow.as_str(), &taken[0].local_id), (UPLOAD, &format!("l{length}")));
    }
}

#[actix_web::test]
async fn what_comes_is_downloaded_whole_and_no_further_than_allowed() {
    let exchange = Exchange::new();
    let client = exchange.mesh.client(&exchange.cpis, 1000);
    client.handshake().await.unwrap();
    for (chunk, gzip) in [(1_000_000, false), (1_000_000, true), (7_000, false), (7_000, true)] {
        let body = noise(50_000);
        let id = exchange.send_as(&exchange.a, UPLOAD, &body, json!({"chunk": chunk, "gzip": gzip}));
        assert_eq!(client.list(None, None).await.unwrap().ids, [id.as_str()]);
        let told = client.head(&id).await.unwrap();
        assert_eq!((told.message_type, told.from.as_str()), (MessageType::Data, exchange.a.as_str()));
        let mut got = Vec::new();
        client.download(&id, &mut got, 50_000).await.unwrap();
        assert_eq!(got, body, "chunk {chunk}, gzip {gzip}");
        let mut short = Vec::new();
        let fault = client.download(&id, &mut short, 49_999).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::TooLarge, "{fault}");
        assert!(short.len() <= 49_999);
        client.acknowledge(&id).await.unwrap();
        client.acknowledge(&id).await.unwrap();
        assert_eq!(exchange.status(&exchange.a, &id), "acknowledged");
        assert!(client.list(None, None).await.unwrap().ids.is_empty());
    }
}

/// A writer that fails when the disk is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix_web::test]
async fn a_full_disk_is_not_the_messages_fault() {
    let exchange = Exchange::new();
    let id = exchange.send(&exchange.a, b"content");
    let client = exchange.mesh.client(&exchange.cpis, 1000);
    assert_eq!(client.download(&id, &mut Full, 100).await.unwrap_err().kind, FaultKind::Local);
    let gone = client.download("NOSUCHMESSAGE", &mut Vec::new(), 100).await.unwrap_err();
    assert_eq!((gone.kind, gone.status), (FaultKind::Gone, Some(404)), "{gone}");
}

#[actix_web::test]
async fn a_long_inbox_is_listed_page_by_page() {
    let exchange = Exchange::new();
    let (sender, client) = (exchange.mesh.client(&exchange.a, 1000), exchange.mesh.client(&exchange.cpis, 1000));
    for n in 0..503 {
        send(&sender, &exchange.cpis, &n.to_string(), b"x").await;
    }
    let first = client.list(None, None).await.unwrap();
    assert_eq!(first.ids.len(), 500);
    let second = client.list(first.next.as_deref(), None).await.unwrap();
    assert_eq!((second.ids.len(), second.next), (3, None));
    assert!(second.ids.iter().all(|id| !first.ids.contains(id)));
    assert!(client.list(None, Some("!CPIS*")).await.unwrap().ids.is_empty());
    assert_eq!(client.list(None, Some("CPIS*")).await.unwrap().ids.len(), 500);
}

#[actix_web::test]
async fn what_became_of_a_message_is_found_by_either_id() {
    let exchange = Exchange::new();
    let client = exchange.mesh.client(&exchange.cpis, 1000);
    let since = Utc::now() - TimeDelta::hours(1);
    assert_eq!(client.find_sent("never", since).await.unwrap(), None);
    let id = send(&client, &exchange.a, "once", b"x").await;
    assert_eq!(client.track(&id).await.unwrap(), SentStatus::Accepted);
    let found = client.find_sent("once", since).await.unwrap().unwrap();
    assert_eq!((found.id, found.status), (id.clone(), SentStatus::Accepted));
    exchange.take(&exchange.a);
    assert_eq!(client.track(&id).await.unwrap(), SentStatus::Acknowledged);
    let twice = [send(&client, &exchange.a, "twice", b"x").await, send(&client, &exchange.a, "twice", b"x").await];
    assert!(twice.contains(&client.find_sent("twice", since).await.unwrap().unwrap().id));
    // One that broke off between its chunks never reaches anybody.
    let fault = client.send(outgoing(&exchange.a, "half"), 5000, &mut HalfABody(1000)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unknown, "{fault}");
    assert_eq!(client.find_sent("half", since).await.unwrap(), None);
    let fault = client.track("NOSUCHMESSAGE").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Gone, "{fault}");
}

/// A body that can be read so far only.
struct HalfABody(usize);

impl std::io::Read for HalfABody {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::ErrorKind::Other.into());
        }
        let length = into.len().min(self.0);
        into[..length].fill(b'x');
        self.0 -= length;
        Ok(length)
    }
}

#[actix_web::test]
async fn refusals_are_told_apart_and_name_no_secret() {
    let exchange = Exchange::new();
    let client = exchange.mesh.client(&exchange.cpis, 1000);
    let fault = client.send(outgoing("NOBODY", "l"), 1, &mut &b"x"[..]).await.unwrap_err();
    assert_eq!((fault.kind, fault.status, fault.code.as_deref()), (FaultKind::Refused, Some(417), Some("12")));
    assert!(fault.text.contains("not registered") && !fault.text.contains("NOBODY"), "{fault}");
    for (password, key) in [("wrong", "TestKey"), ("password", "wrong")] {
        let mut settings = exchange.mesh.client_settings(&exchange.cpis, 1000);
        settings.password = SecretString::from(password);
        settings.shared_key = SecretString::from(key);
        let fault = MeshClient::new(settings).unwrap().handshake().await.unwrap_err();
        assert_eq!((fault.kind, fault.status), (FaultKind::Refused, Some(403)), "{fault}");
        assert!(fault.is_of_mesh());
        assert!(fault.text.contains("check the mailbox, its password") && !fault.text.contains("wrong"), "{fault}");
    }
    let mut nowhere = exchange.mesh.client_settings(&exchange.cpis, 1000);
    nowhere.url = "http://127.0.0.1:1".to_owned();
    let fault = MeshClient::new(nowhere).unwrap().list(None, None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
}

#[actix_web::test]
async fn mutual_tls_lets_in_whom_the_authority_certified() {
    let certificates = Certificates::make();
    let mesh = Mesh::start_with(Some(&certificates));
    let exchange = mesh.exchange();
    let client = |identity: Option<&str>, trusted: bool| {
        let mut settings = mesh.client_settings(&exchange.cpis, 1000);
        settings.identity = identity.map(|name| certificates.identity(name));
        settings.authorities = trusted.then(|| std::fs::read(certificates.path("ca.pem")).unwrap());
        MeshClient::new(settings).unwrap()
    };
    let good = client(Some("client"), true);
    good.handshake().await.unwrap();
    let id = exchange.send(&exchange.a, b"over TLS");
    let mut got = Vec::new();
    good.download(&id, &mut got, 100).await.unwrap();
    assert_eq!(got, b"over TLS");
    for (identity, trusted) in [(None, true), (Some("stranger"), true), (Some("client"), false)] {
        let fault = client(identity, trusted).handshake().await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Unavailable | FaultKind::Unknown), "{identity:?}: {fault:?}");
        assert_eq!(fault.status, None);
    }
    let mut mismatched = mesh.client_settings(&exchange.cpis, 1000);
    mismatched.identity = Some(certificates.identity("client"));
    mismatched.identity.as_mut().unwrap().key = std::fs::read(certificates.path("stranger.key")).unwrap().into();
    let fault = MeshClient::new(mismatched).unwrap_err();
    assert!(fault.text.contains("belong together"), "{fault}");
}
