//! What metrics and logs learn of one request. It is told when the record is dropped at the latest, so no request is forgotten.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use tokio::time::Instant;

use super::body::Progress;
use crate::error::{Answer, Flag, Flags};
use crate::telemetry::access_log::{Entry, Lines};
use crate::telemetry::istio::{Key, Number, Reporter, RequestProtocol, Security};
use crate::workers::Worker;

/// `UNAUTHENTICATED`
const HIGHEST_GRPC_STATUS: u32 = 16;

/// One request.
#[derive(Debug)]
pub struct Record {
    worker: Rc<Worker>,
    /// When its headers were there.
    pub start: Instant,
    /// Which side we are on.
    pub reporter: Reporter,
    /// Whether Istio's metrics are kept for it.
    pub counted: bool,
    /// HTTP or gRPC.
    pub protocol: RequestProtocol,
    /// Who asked.
    pub source: Number,
    /// Who answered.
    pub destination: Number,
    /// Who asked, by certificate.
    pub source_principal: Number,
    /// Who answered, by certificate.
    pub destination_principal: Number,
    /// Which service.
    pub service: Number,
    /// How the client's connection is secured, as the server's side says it.
    pub security: Security,
    /// The status; 0 until there is one.
    pub code: u16,
    /// The gRPC status.
    pub grpc: Option<u32>,
    /// Response flags.
    pub flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// The request's body, if it has one.
    pub body: Option<Rc<Progress>>,
    /// Body bytes that went to the client.
    pub sent: u64,
    /// What only logs ask for; `None` where there is no log.
    pub log: Option<Box<LogPart>>,
    completed: bool,
}

/// What only access logs ask for.
#[derive(Debug)]
pub struct LogPart {
    /// The logs and the headers that they ask for.
    pub lines: Rc<Lines>,
    /// When the request came.
    pub time: SystemTime,
    /// The request.
    pub entry: Entry,
}

impl Record {
    /// A request that has just come.
    pub fn new(worker: Rc<Worker>, reporter: Reporter) -> Self {
        worker.recorder.envoy().downstream_rq_active.add(1);
        Self {
            worker,
            start: Instant::now(),
            reporter,
            counted: true,
            protocol: RequestProtocol::Http,
            source: 0,
            destination: 0,
            source_principal: 0,
            destination_principal: 0,
            service: 0,
            security: if reporter == Reporter::Source { Security::Unknown } else { Security::None },
            code: 0,
            grpc: None,
            flags: Flags::default(),
            details: Cow::default(),
            body: None,
            sent: 0,
            log: None,
            completed: false,
        }
    }

    /// The request was answered with a failure of our own.
    pub fn failed(&mut self, answer: &Answer) {
        self.code = answer.status;
        if let Some(flag) = answer.flag {
            self.flags.set(flag);
        }
        self.details = answer.details.clone().into();
        if let Some(log) = &mut self.log {
            log.entry.transport_failure.clone_from(&answer.transport_failure);
        }
        if self.protocol == RequestProtocol::Grpc {
            self.grpc = Some(u32::from(answer.grpc));
            self.code = 200;
        }
    }

    /// Notes where the request went, for logs.
    pub fn upstream(&mut self, cluster: &Arc<str>, remote: SocketAddr, local: SocketAddr) {
        if let Some(log) = &mut self.log {
            log.entry.cluster = Some(cluster.clone());
            log.entry.upstream_remote = Some(remote);
            log.entry.upstream_local = Some(local);
        }
    }

    /// Reads the gRPC status from headers or trailers.
    pub fn grpc_from(&mut self, headers: &HeaderMap) {
        if self.protocol == RequestProtocol::Grpc
            && let Some(status) = headers.get("grpc-status")
        {
            let number = status.to_str().ok().and_then(|status| status.parse().ok());
            // A number that gRPC does not have means "unknown" (2), and must not make a series of its own.
            self.grpc = number.map(|number| if number <= HIGHEST_GRPC_STATUS { number } else { 2 });
        }
    }

    /// Body bytes that came from the client.
    fn received(&self) -> u64 {
        self.body.as_ref().map_or(0, |progress| progress.received.get())
    }

    /// The response has been sent to its end, or failed on the way.
    pub fn complete(&mut self) {
        if self.completed {
            return;
        }
        self.completed = true;
        self.tell();
    }

    fn tell(&mut self) {
        self.worker.recorder.envoy().downstream_rq_active.sub(1);
        let duration = self.start.elapsed();
        if self.counted {
            let key = Key {
                reporter: self.reporter,
                source: self.source,
                destination: self.destination,
                source_principal: self.source_principal,
                destination_principal: self.destination_principal,
                service: self.service,
                protocol: self.protocol,
                code: self.code,
                grpc: self.grpc,
                flags: self.flags,
                security: self.security,
            };
            let series = self.worker.recorder.http(&key);
            series.requests.add(1);
            series.duration.observe(duration.as_secs_f64() * 1000.0);
            #[expect(clippy::cast_precision_loss, reason = "buckets are coarse")]
            {
                series.request_bytes.observe(self.received() as f64);
                series.response_bytes.observe(self.sent as f64);
            }
        }
        if let Some(log) = self.log.take() {
            let LogPart { lines, time, mut entry } = *log;
            entry.start = Some(time);
            entry.code = self.code;
            entry.flags = self.flags;
            entry.details = std::mem::take(&mut self.details);
            entry.received = self.received();
            entry.sent = self.sent;
            entry.duration = duration;
            lines.write(&entry, &self.worker.logs);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.completed {
            self.completed = true;
            // Nobody waited for the answer's end.
            self.flags.set(Flag::DC);
            if self.details.is_empty() {
                self.details = "downstream_remote_disconnect".into();
            }
            self.tell();
        }
    }
}
