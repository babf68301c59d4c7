//! A client for the calls of [`super`]: one connection per call, every one with a deadline and a bounded answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::rpc::{
    BLOB_NOT_FOUND, Blob, ExtendedHeader, FROM_THE_FUTURE, MAX_ANSWER_BYTES, Namespace, RpcCall, RpcReply,
};

/// For everything but a submit.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A submit is answered when its DA block is made.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a call has no answer. Any of them may be over at the next try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaError {
    #[error("that DA height is not made yet")]
    FromTheFuture,
    #[error("the DA node cannot be reached: {0}")]
    Unreachable(String),
    #[error("the DA node did not answer in time")]
    Timeout,
    #[error("the DA node refused: {0}")]
    Refused(String),
}

/// Speaks to one DA node, about one namespace.
#[derive(Clone, Debug)]
pub struct DaClient {
    authority: String,
    namespace: Namespace,
}

impl DaClient {
    /// `url` is `http://host:port`, with nothing after it.
    ///
    /// # Errors
    /// One sentence, when it is not.
    pub fn new(url: &str, namespace: Namespace) -> Result<Self, String> {
        let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let is_plain = |authority: &&str| {
            authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                && !authority.contains(['/', '@', '?', '#'])
        };
        let authority = authority.filter(is_plain);
        let authority =
            authority.ok_or_else(|| format!("`{url}` is not a DA node's address: write http://host:port"))?;
        Ok(Self { authority: authority.to_owned(), namespace })
    }

    /// The newest DA height.
    pub async fn network_head(&self) -> Result<u64, DaError> {
        let header: ExtendedHeader = self.call("header.NetworkHead", vec![], CALL_TIMEOUT).await?;
        Ok(header.header.height)
    }

    /// The data of all blobs of the namespace at this DA height, in order; empty when there are none.
    pub async fn get_all(&self, height: u64) -> Result<Vec<Bytes>, DaError> {
        let params = vec![json!(height), json!([self.namespace])];
        // Nodes say "none" in three ways: by an error, by null, and by an empty list.
        let blobs: Option<Vec<Blob>> = match self.call("blob.GetAll", params, CALL_TIMEOUT).await {
            Err(DaError::Refused(why)) if why.contains(BLOB_NOT_FOUND) => None,
            answer => answer?,
        };
        let ours = blobs.into_iter().flatten().filter(|blob| blob.namespace == self.namespace);
        Ok(ours.map(|blob| blob.data.0.into()).collect())
    }

    /// Posts one blob, and returns the DA height that it is in.
    pub async fn submit(&self, data: Vec<u8>) -> Result<u64, DaError> {
        let params = vec![json!([Blob::new(self.namespace, data)]), json!({})];
        self.call("blob.Submit", params, SUBMIT_TIMEOUT).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Vec<Value>, limit: Duration) -> Result<T, DaError> {
        let call = RpcCall { id: json!(1), jsonrpc: "2.0".into(), method: method.to_owned(), params };
        let body = serde_json::to_vec(&call).map_err(|error| DaError::Refused(error.to_string()))?;
        let body = tokio::time::timeout(limit, self.post(body)).await.map_err(|_| DaError::Timeout)??;
        let unreadable = |error: serde_json::Error| DaError::Refused(format!("its answer is not JSON-RPC: {error}"));
        let reply: RpcReply = serde_json::from_slice(&body).map_err(unreadable)?;
        match reply.error {
            Some(fault) if fault.message.contains(FROM_THE_FUTURE) => Err(DaError::FromTheFuture),
            Some(fault) => Err(DaError::Refused(fault.message.chars().take(200).collect())),
            None => serde_json::from_value(reply.result.unwrap_or_default()).map_err(unreadable),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<Bytes, DaError> {
        let unreachable = |error: &dyn std::error::Error| DaError::Unreachable(error.to_string());
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let request = Request::post("/")
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::<Bytes>::from(body))
            .map_err(|error| unreachable(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| DaError::Unreachable(error.to_string()))?.to_bytes();
            // go-jsonrpc sends some errors with a status of 500: what counts is whether the body is an answer.
            if status.is_success() || body.first() == Some(&b'{') {
                Ok(body)
            } else {
                Err(DaError::Refused(format!("HTTP status {status}")))
            }
        };
        // The connection lives only as long as this call: both are polled here, and nothing is left behind.
        tokio::pin!(connection, answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(unreachable(&error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::DevDa;
    use super::*;

    fn client(url: &str, name: &str) -> DaClient {
        DaClient::new(url, Namespace::of(name)).unwrap()
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        for good in ["http://127.0.0.1:26658", "http://localhost:26658/", "http://[::1]:1"] {
            assert!(DaClient::new(good, Namespace::of("a")).is_ok(), "{good}");
        }
        for bad in ["", "https://a:1", "http://a", "http://:1", "http://a:1/b", "http://u@a:1", "http://a:99999"] {
            assert!(DaClient::new(bad, Namespace::of("a")).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn blobs_are_read_back_in_order_and_by_namespace() {
        let da = DevDa::start(Duration::from_millis(20)).await.unwrap();
        let (ours, other) = (client(&da.url(), "ours"), client(&da.url(), "other"));
        let (a, b) = tokio::join!(ours.submit(b"one".to_vec()), other.submit(b"two".to_vec()));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(ours.get_all(a).await.unwrap(), ["one"]);
        assert_eq!(other.get_all(b).await.unwrap(), ["two"]);
        assert_eq!(ours.get_all(1).await.unwrap(), [""; 0]);
        assert!(ours.network_head().await.unwrap() >= a.max(b));
        assert_eq!(ours.get_all(u64::MAX).await, Err(DaError::FromTheFuture));
        let header: ExtendedHeader = ours.call("header.GetByHeight", vec![json!(a)], CALL_TIMEOUT).await.unwrap();
        assert_eq!(header.header.height, a);
        assert!(humantime::parse_rfc3339(&header.header.time).is_ok(), "{}", header.header.time);
        assert!(da.is_running());
    }

    #[tokio::test]
    async fn bad_calls_are_refused_and_harm_nobody() {
        let da = DevDa::start(Duration::from_millis(20)).await.unwrap();
        let client = client(&da.url(), "a");
        for (method, params) in [
            ("blob.Steal", vec![]),
            ("blob.GetAll", vec![]),
            ("blob.GetAll", vec![json!(-1), json!([])]),
            ("blob.GetAll", vec![json!(1), json!(["AAAA"])]),
            ("blob.Submit", vec![json!([])]),
            ("header.GetByHeight", vec![json!("1")]),
        ] {
            let answer = client.call::<Value>(method, params.clone(), CALL_TIMEOUT).await;
            assert!(matches!(answer, Err(DaError::Refused(_))), "{method} {params:?}: {answer:?}");
        }
        let huge = client.submit(vec![0; super::super::rpc::MAX_REQUEST_BYTES]).await;
        assert!(matches!(huge, Err(DaError::Refused(_) | DaError::Unreachable(_))), "{huge:?}");
        assert!(client.submit(b"fine".to_vec()).await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b' '; 8192]).await.is_ok() {}
        });
        assert!(matches!(client(&url, "a").network_head().await, Err(DaError::Unreachable(_))));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(client(&url, "a").network_head().await, Err(DaError::Unreachable(_))));
    }
}
