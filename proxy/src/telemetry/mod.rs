//! What the proxy tells about its traffic.
//!
//! What comes in: one record for each request and each connection, when it is over. What goes out: Istio's standard metrics as
//! Prometheus text, access logs, a handful of Envoy's gauges. Labels are interned once; a request adds to a cell that only its worker
//! writes and the scraper reads.
//!
//! * [`cells`]: counters and histograms with one writer
//! * [`peer`]: who a peer is, and the small numbers that stand for names
//! * [`istio`]: the standard metrics
//! * [`envoy`]: cluster and listener gauges that Kiali reads
//! * [`render`]: the text of a scrape
//! * [`access_log`]: formats and lines
//! * [`process`]: the process's own figures

pub mod access_log;
pub mod cells;
pub mod envoy;
pub mod istio;
pub mod peer;
pub mod process;
pub mod render;
