//! Requests as bytes, for what no well-behaved client sends.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{Reply, TestApp, answer};

impl TestApp {
    /// Sends bytes and reads the answer until the gateway closes; `Connection: close` is the sender's to say.
    pub async fn raw(&self, bytes: Vec<u8>) -> Reply {
        self.exchange(bytes, false).await
    }

    /// Sends bytes and then nothing more, as a client that goes away.
    pub async fn raw_cut(&self, bytes: Vec<u8>) -> Reply {
        self.exchange(bytes, true).await
    }

    async fn exchange(&self, bytes: Vec<u8>, cut: bool) -> Reply {
        let address = self.app.address();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
            // A gateway that has seen enough may close before it has read everything.
            let _cut_short = stream.write_all(&bytes);
            if cut {
                stream.shutdown(Shutdown::Write).expect("an end");
            }
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            answer
        });
        let reply = read(&answer.await.expect("an answer"));
        answer::check("bytes", &reply);
        reply
    }
}

/// Status 0 when the gateway closed without an answer.
fn read(answer: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(answer).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Reply { status: 0, headers: HeaderMap::new(), text, json: Value::Null };
    };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().expect("a header's name");
        headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    Reply { status, headers, json: serde_json::from_str(body).unwrap_or(Value::Null), text: body.to_owned() }
}
