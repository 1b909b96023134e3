//! What the control plane measures, under the names that Istio's dashboards know.
//!
//! Only what is really fed is here. [`Metrics::text`] is what `/metrics` answers.

mod family;
mod process;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use family::{Counter, Family, Gauge, Histogram};

/// Everything that is measured.
pub(crate) struct Metrics {
    started: Instant,
    /// Connected proxies.
    pub(crate) xds: Family<Gauge, 1>,
    pub(crate) pushes: Family<Counter, 1>,
    pub(crate) push_time: Family<Histogram, 1>,
    pub(crate) rejects: Family<Counter, 1>,
    /// `pilot_xds_{cds,eds,lds,rds,vhds}_reject`: which proxy refuses what now.
    pub(crate) refusing: [Family<Gauge, 2>; 5],
    pub(crate) expired_nonces: Arc<Counter>,
    pub(crate) internal_errors: Arc<Counter>,
    /// From a change to the ACK of the proxy that got it last.
    pub(crate) convergence_time: Arc<Histogram>,
    pub(crate) debounce_time: Arc<Histogram>,
    /// Translating a changed model.
    pub(crate) translate_time: Arc<Histogram>,
    pub(crate) services: Arc<Gauge>,
    pub(crate) virtual_services: Arc<Gauge>,
    pub(crate) rejected_configs: Family<Gauge, 2>,
    pub(crate) problems: Family<Gauge, 3>,
    pub(crate) config_events: Family<Counter, 2>,
    pub(crate) registry_events: Family<Counter, 2>,
    pub(crate) inbound_updates: Family<Counter, 1>,
    pub(crate) push_triggers: Family<Counter, 1>,
    pub(crate) csr_count: Arc<Counter>,
    pub(crate) certificates_issued: Arc<Counter>,
    pub(crate) authentication_failures: Arc<Counter>,
    pub(crate) csr_parsing_errors: Arc<Counter>,
    pub(crate) csr_sign_errors: Family<Counter, 1>,
    pub(crate) root_expiry: Arc<Gauge>,
    pub(crate) chain_expiry: Arc<Gauge>,
    counters: Vec<Family<Counter, 0>>,
    gauges: Vec<Family<Gauge, 0>>,
    histograms: Vec<Family<Histogram, 0>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let (mut counters, mut gauges, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        let mut counter = |name, help| {
            let (family, cell) = Family::single(name, help);
            counters.push(family);
            cell
        };
        let mut gauge = |name, help| {
            let (family, cell) = Family::single(name, help);
            gauges.push(family);
            cell
        };
        let mut histogram = |name, help| {
            let (family, cell) = Family::single(name, help);
            histograms.push(family);
            cell
        };
        let refusing = [
            "pilot_xds_cds_reject",
            "pilot_xds_eds_reject",
            "pilot_xds_lds_reject",
            "pilot_xds_rds_reject",
            "pilot_xds_vhds_reject",
        ]
        .map(|name| Family::new(name, "Whether a proxy refuses what it was sent.", ["node", "err"]));
        Self {
            started: Instant::now(),
            xds: Family::new("pilot_xds", "Proxies connected to this replica, by their version.", ["version"]),
            pushes: Family::new("pilot_xds_pushes", "Responses sent, by type.", ["type"]),
            push_time: Family::new("pilot_xds_push_time", "From a change to the response, in seconds.", ["type"]),
            rejects: Family::new("pilot_total_xds_rejects", "Responses that a proxy refused, by type.", ["type"]),
            refusing,
            expired_nonces: counter("pilot_xds_expired_nonce", "Answers to a response that was not the last one."),
            internal_errors: counter("pilot_total_xds_internal_errors", "Streams that ended by an error of ours."),
            convergence_time: histogram(
                "pilot_proxy_convergence_time",
                "From a change to a proxy's acceptance of everything that it changed, in seconds.",
            ),
            debounce_time: histogram("pilot_debounce_time", "How long a change waited for others, in seconds."),
            translate_time: histogram("pilot_pushcontext_init_seconds", "Making a snapshot of the model, in seconds."),
            services: gauge("pilot_services", "Services of the mesh."),
            virtual_services: gauge("pilot_virt_services", "VirtualServices of the mesh."),
            rejected_configs: Family::new(
                "pilot_total_rejected_configs",
                "Objects whose newest version cannot be read; the log says why.",
                ["type", "name"],
            ),
            problems: Family::new(
                "pilot_config_problems",
                "Mistakes in rules that connected proxies are concerned by; the log says which.",
                ["type", "name", "reason"],
            ),
            config_events: Family::new(
                "pilot_k8s_cfg_events",
                "Events of configuration objects, by kind.",
                ["type", "event"],
            ),
            registry_events: Family::new("pilot_k8s_reg_events", "Events of Services, Pods ...", ["type", "event"]),
            inbound_updates: Family::new("pilot_inbound_updates", "Changes of the model, by what changed.", ["type"]),
            push_triggers: Family::new("pilot_push_triggers", "Pushes, by what caused them.", ["type"]),
            csr_count: counter("citadel_server_csr_count", "Certificate signing requests."),
            certificates_issued: counter("citadel_server_success_cert_issuance_count", "Certificates issued."),
            authentication_failures: counter(
                "citadel_server_authentication_failure_count",
                "Callers whose identity could not be established.",
            ),
            csr_parsing_errors: counter("citadel_server_csr_parsing_err_count", "Signing requests that are malformed."),
            csr_sign_errors: Family::new("citadel_server_csr_sign_err_count", "Failures to sign.", ["error"]),
            root_expiry: gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "When the last trusted root expires, in seconds of Unix time.",
            ),
            chain_expiry: gauge(
                "citadel_server_cert_chain_expiry_timestamp",
                "When the signing certificate expires, in seconds of Unix time.",
            ),
            counters,
            gauges,
            histograms,
        }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let build = [
            ("pilot_info", "The version of this control plane.", format!("version=\"{}\"", names::VERSION)),
            ("istio_build", "What runs here.", format!("component=\"pilot\",tag=\"{}\"", names::VERSION)),
        ];
        for (name, help, labels) in build {
            family::header(name, help, "gauge", &mut out);
            family::sample(name, &labels, "1", &mut out);
        }
        let uptime = "istiod_uptime_seconds";
        family::header(uptime, "How long this process runs.", "gauge", &mut out);
        family::sample(uptime, "", &self.started.elapsed().as_secs().to_string(), &mut out);

        self.xds.write(&mut out);
        self.pushes.write(&mut out);
        self.push_time.write(&mut out);
        self.rejects.write(&mut out);
        self.refusing.iter().for_each(|family| family.write(&mut out));
        self.rejected_configs.write(&mut out);
        self.problems.write(&mut out);
        self.config_events.write(&mut out);
        self.registry_events.write(&mut out);
        self.inbound_updates.write(&mut out);
        self.push_triggers.write(&mut out);
        self.csr_sign_errors.write(&mut out);
        self.counters.iter().for_each(|family| family.write(&mut out));
        self.gauges.iter().for_each(|family| family.write(&mut out));
        self.histograms.iter().for_each(|family| family.write(&mut out));
        process::write(&mut out);
        out
    }
}
