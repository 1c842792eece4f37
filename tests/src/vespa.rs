//! A small Vespa container behind the gate: `/document/v1/`, `/search/`, status, and what its clients ask besides.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::{Value, json};

use crate::http1::Message;

/// A listening container. Its threads end with the process.
#[derive(Clone)]
pub struct Vespa {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Fields by document id.
    documents: BTreeMap<String, Value>,
    requests: Vec<Message>,
}

impl Vespa {
    /// Starts with no documents.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port");
        let vespa = Self { address, state: Arc::default() };
        let own = vespa.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                // A broken connection is the client's affair; the test looks at what arrived.
                thread::spawn(move || own.serve(stream).ok());
            }
        });
        vespa
    }

    /// Puts a document there.
    pub fn store(&self, id: &str, fields: Value) {
        self.state().documents.insert(id.to_owned(), fields);
    }

    /// Takes the requests of clients so far, with raw targets and fields as they came.
    pub fn take_requests(&self) -> Vec<Message> {
        let mut requests = std::mem::take(&mut self.state().requests);
        // The host looks whether this is a service without TLS; no client asked.
        requests.retain(|request| !request.start.starts_with("OPTIONS * "));
        requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = Message::read(&mut reader)? {
            let (status, body) = self.state().take(request);
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} Vespa\r\ncontent-type: application/json;charset=utf-8\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            writer.write_all((head + &body).as_bytes())?;
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, request: Message) -> (u16, Value) {
        let mut words = request.start.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().and_then(|target| target.split('?').next()).unwrap_or_default().to_owned();
        let fields =
            serde_json::from_slice::<Value>(&request.body).map_or(Value::Null, |body| body["fields"].clone());
        self.requests.push(request);
        match (method.as_str(), path.as_str()) {
            ("GET", "/") => (200, handlers()),
            ("GET", "/status.html" | "/ApplicationStatus" | "/state/v1/health") => {
                (200, json!({"status": {"code": "up"}}))
            }
            ("GET" | "POST", "/search/") => (200, self.search()),
            ("GET", path) if path.starts_with("/document/v1/") && path.ends_with('/') => {
                (200, self.visit(path))
            }
            (method, path) => match document_id(path) {
                Some(id) => self.document(method, path, id, fields),
                None => (404, json!({"error-code": "NOT_FOUND", "message": "Nothing at path"})),
            },
        }
    }

    fn document(&mut self, method: &str, path: &str, id: String, fields: Value) -> (u16, Value) {
        let mut answer = json!({"pathId": path, "id": id});
        match method {
            "POST" | "PUT" => drop(self.documents.insert(id, fields)),
            "DELETE" => drop(self.documents.remove(&id)),
            "GET" => match self.documents.get(&id) {
                Some(fields) => answer["fields"] = fields.clone(),
                None => return (404, answer),
            },
            _ => return (405, json!({"pathId": path, "message": "Method not allowed"})),
        }
        (200, answer)
    }

    fn visit(&self, path: &str) -> Value {
        let documents: Vec<_> = self.entries().collect();
        json!({"pathId": path, "documentCount": documents.len(), "documents": documents})
    }

    fn search(&self) -> Value {
        let children: Vec<_> = self.entries().collect();
        json!({"root": {
            "id": "toplevel",
            "relevance": 1.0,
            "fields": {"totalCount": children.len()},
            "coverage": {"coverage": 100, "documents": children.len(), "full": true, "nodes": 1, "results": 1},
            "children": children,
        }})
    }

    fn entries(&self) -> impl Iterator<Item = Value> {
        self.documents.iter().map(|(id, fields)| json!({"id": id, "fields": fields}))
    }
}

/// What a container lists at `/`; `vespa visit` looks for the document API there.
fn handlers() -> Value {
    json!({"handlers": [{
        "id": "com.yahoo.document.restapi.resource.DocumentV1ApiHandler",
        "class": "com.yahoo.document.restapi.resource.DocumentV1ApiHandler",
        "bundle": "vespaclient-container-plugin:8.763.13",
        "serverBindings": ["http://*/document/v1/*", "http://*/document/v1/*/"],
    }]})
}

/// `id:NAMESPACE:TYPE::ID` of `/document/v1/NAMESPACE/TYPE/docid/ID`, where the id may have slashes of its own.
fn document_id(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/document/v1/")?.splitn(4, '/');
    let (namespace, kind, docid, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (docid == "docid").then(|| format!("id:{namespace}:{kind}::{}", decoded(id)))
}

/// Without percent-encoding (RFC 3986, 2.1); a broken escape stands for itself.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
