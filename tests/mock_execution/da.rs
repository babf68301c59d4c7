//! A DA node that always has the same few blocks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::Digest as _;

/// Serves `blobs[h - 1]` at DA height `h`, to whoever asks, until the process ends. Returns its address.
pub fn start(chain_id: &str, blobs: Vec<Vec<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut namespace = [0; 29];
    namespace[19..].copy_from_slice(&sha2::Sha256::digest(chain_id)[..10]);
    let namespace = STANDARD.encode(namespace);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(stream.unwrap(), &namespace, &blobs);
        }
    });
    url
}

fn answer(mut stream: TcpStream, namespace: &str, blobs: &[Vec<Vec<u8>>]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call: Value = serde_json::from_slice(&body)?;
    let reply = match call["method"].as_str().unwrap() {
        "header.NetworkHead" => json!({"result": {"header": {"height": blobs.len().to_string()}}}),
        "blob.GetAll" => {
            assert_eq!(call["params"][1][0], namespace, "the namespace of the chain");
            let height = usize::try_from(call["params"][0].as_u64().unwrap()).unwrap();
            match blobs.get(height - 1) {
                None => json!({"error": {"code": 1, "message": "header: given height is from the future"}}),
                Some(found) if found.is_empty() => json!({"error": {"code": 1, "message": "blob: not found"}}),
                Some(found) => {
                    let blob = |data: &Vec<u8>| json!({"namespace": namespace, "data": STANDARD.encode(data)});
                    json!({"result": found.iter().map(blob).collect::<Vec<_>>()})
                }
            }
        }
        "blob.Submit" => json!({"result": blobs.len()}),
        other => panic!("{other}"),
    };
    let mut reply = reply;
    reply["jsonrpc"] = "2.0".into();
    reply["id"] = call["id"].clone();
    let text = reply.to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}
