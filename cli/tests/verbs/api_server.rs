//! The few answers of an API server that a verb asks for, over plain HTTP on the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

/// A kubeconfig for an API server that answers these paths.
pub(crate) struct ApiServer {
    folder: tempfile::TempDir,
}

impl ApiServer {
    /// Starts one; it ends with the test's process.
    pub(crate) fn with(objects: &[(&str, Value)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let objects: BTreeMap<String, Value> =
            objects.iter().map(|(path, object)| ((*path).to_owned(), object.clone())).collect();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = objects.clone();
                std::thread::spawn(move || serve(&stream, &objects));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "box",
            "clusters": [{"name": "box", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "box", "user": {}}],
            "contexts": [
                {"name": "box", "context": {"cluster": "box", "user": "box", "namespace": "shop"}},
                {"name": "other", "context": {"cluster": "box", "user": "box", "namespace": "test"}},
            ],
        });
        std::fs::write(folder.path().join("config"), config.to_string()).unwrap();
        Self { folder }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("config")
    }
}

fn serve(stream: &TcpStream, objects: &BTreeMap<String, Value>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut line = String::new();
    // One request after the other on a connection; none of them has a body.
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
        line.clear();
        let not_found = || {
            json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": format!("{path} not found"), "metadata": {},
            })
        };
        let status = if objects.contains_key(&path) { "200 OK" } else { "404 Not Found" };
        let body = objects.get(&path).cloned().unwrap_or_else(not_found);
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// A list of a kind.
pub(crate) fn list(api_version: &str, kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {}, "items": items})
}
