//! A steady load on the bookshop, that counts what a visitor would see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Request, header};

use forestay_e2e::kube_box::KubeBox;

/// What a load saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Requests answered, by status.
    pub(crate) answers: BTreeMap<u16, usize>,
    /// Requests not answered, by what went wrong.
    pub(crate) errors: BTreeMap<String, usize>,
    /// The first bodies of answers that were not 200.
    pub(crate) bodies: Vec<String>,
}

impl Seen {
    /// How many requests were answered 200.
    pub(crate) fn good(&self) -> usize {
        self.answers.get(&200).copied().unwrap_or_default()
    }

    /// Fails unless every request was answered 200, and enough were made to mean something.
    pub(crate) fn all_good(&self, at_least: usize) -> Result<()> {
        let bad: usize = self.answers.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
        ensure!(bad == 0 && self.errors.is_empty(), "requests failed under load: {self:?}");
        ensure!(self.good() >= at_least, "only {} requests were made, too few to mean anything", self.good());
        Ok(())
    }
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Starts `clients` visitors who each ask for `path` every `pause`, with a connection of their own each time.
    pub(crate) fn start(kube: &KubeBox, target: SocketAddr, path: &str, clients: usize, pause: Duration) -> Self {
        let mut load = Self { stop: Arc::default(), seen: Arc::default(), tasks: Vec::new() };
        let tasks = (0..clients).map(|_| {
            let (stop, seen, network, path) =
                (load.stop.clone(), load.seen.clone(), kube.network().clone(), path.to_owned());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let request = Request::get(&path).header(header::HOST, target.to_string()).body(Bytes::new());
                    let outcome = match request {
                        Ok(request) => network.http(target, request).await,
                        Err(error) => Err(error.into()),
                    };
                    {
                        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        match outcome {
                            Ok(response) => {
                                let status = response.status().as_u16();
                                *seen.answers.entry(status).or_default() += 1;
                                if status != 200 && seen.bodies.len() < 5 {
                                    let flags = response.headers().get("x-envoy-response-flags").cloned();
                                    let body = String::from_utf8_lossy(response.body()).into_owned();
                                    seen.bodies.push(format!("{status} {flags:?} {body}"));
                                }
                            }
                            Err(error) => *seen.errors.entry(format!("{error:#}")).or_default() += 1,
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            })
        });
        load.tasks = tasks.collect();
        load
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Stops, lets requests in flight finish, and says what was seen.
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            let _ = task.await;
        }
        self.seen()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
