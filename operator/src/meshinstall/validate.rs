//! From what was read to what it means: a [`Mesh`], or the field that is wrong and what to do about it.
//!
//! The schema and its CEL rules have already refused what can be known from the object alone; here is what takes a
//! look at the rest of the cluster, at the operator's own version, or into MeshConfig.

use std::collections::BTreeMap;

use crds::install::condition::Reason;
use crds::install::{GatewaySpec, MeshInstallSpec, ServicePort, TransportProtocol, WorkloadSpec};
use names::images;
use serde_json::{Map, Value};

use super::dereference::{Dereferenced, NamespaceState};
use super::mesh::{Gateway, GatewayPort, Mesh, Proxy, Workload};
use super::{mesh_config, profile};

/// What a gateway's proxy itself listens on, besides the health port that load balancers probe.
const RESERVED: [u16; 4] =
    [names::ports::PROXY_ADMIN, names::ports::AGENT, names::ports::PROXY_STATS, names::ports::DNS];

/// A MeshInstall that cannot be honoured as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct Invalid {
    /// The reason of the condition.
    pub(crate) reason: Reason,
    /// The field, `spec.gateways[1].namespace`.
    pub(crate) field: String,
    /// What is wrong with it and what to do.
    pub(crate) message: String,
}

impl Invalid {
    fn spec(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidSpec, field: field.into(), message: message.into() }
    }
}

/// What the operator's environment says about images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelatedImages {
    /// `RELATED_IMAGE_FORESTAY`.
    pub(crate) forestay: Option<String>,
    /// `RELATED_IMAGE_PROXY`.
    pub(crate) proxy: Option<String>,
}

/// What a MeshInstall means. Gives the first thing that is wrong, in the order in which a person would look.
pub(crate) fn validate(read: &Dereferenced, related: &RelatedImages) -> Result<Mesh, Invalid> {
    let spec = &read.spec;
    version(spec)?;
    revision(read)?;
    foreign_control_plane(read)?;
    terminating_namespace(read)?;
    check_mesh_config(&spec.mesh_config)?;

    let defaults = profile::defaults(spec.profile);
    let hub = spec.hub.clone().unwrap_or_else(|| images::HUB.to_owned());
    let image = |name: &str, own: Option<&String>, related: Option<&String>| {
        // An explicit spec wins over the operator's environment, that over the default.
        let related = related.filter(|_| spec.hub.is_none());
        own.or(related).cloned().unwrap_or_else(|| images::reference(&hub, name, &spec.version))
    };
    let workload = |own: Option<&WorkloadSpec>, resources, replicas| Workload {
        image: image(images::FORESTAY, own.and_then(|w| w.image.as_ref()), related.forestay.as_ref()),
        replicas: own.and_then(|w| w.replicas).or(replicas),
        resources: own.and_then(|w| w.resources.clone()).unwrap_or(resources),
    };

    let standard = mesh_config::defaults(&spec.namespace, &spec.revision);
    let under = mesh_config::merge(standard, &defaults.mesh_config);
    let proxy = spec.proxy.clone().unwrap_or_default();
    let proxy_image = image(images::PROXY, proxy.image.as_ref(), related.proxy.as_ref());
    let named = proxy.image.is_some() || (spec.hub.is_none() && related.proxy.is_some());

    Ok(Mesh {
        name: read.name.clone(),
        uid: read.uid.clone(),
        namespace: spec.namespace.clone(),
        revision: spec.revision.clone(),
        version: spec.version.clone(),
        control_plane: workload(spec.control_plane.as_ref(), defaults.control_plane.clone(), None),
        webhook: workload(spec.webhook.as_ref(), defaults.webhook.clone(), defaults.webhook_replicas),
        gateways: gateways(read, &defaults)?,
        proxy: Proxy {
            image_value: if named { proxy_image.clone() } else { images::PROXY.to_owned() },
            image: proxy_image,
            resources: proxy.resources.unwrap_or_else(|| defaults.sidecar.clone()),
            log_level: proxy.log_level.map_or("warning", crds::install::LogLevel::as_str),
        },
        mesh_config: mesh_config::merge(under, &spec.mesh_config),
        trace_sampling: defaults.trace_sampling,
        hub,
    })
}

fn version(spec: &MeshInstallSpec) -> Result<(), Invalid> {
    if spec.version == names::VERSION {
        return Ok(());
    }
    Err(Invalid {
        reason: Reason::UnknownVersion,
        field: "spec.version".into(),
        message: format!(
            "this operator does not have version {:?}; set {:?}, or install the operator of that version",
            spec.version,
            names::VERSION
        ),
    })
}

/// A revision is one control plane: of two MeshInstalls that name it the older one has it. Also across namespaces,
/// because a pod's label names a revision and no namespace, so the webhooks of both would inject it.
fn revision(read: &Dereferenced) -> Result<(), Invalid> {
    let Some(owner) = read.others.iter().find(|other| other.revision == read.spec.revision && other.older) else {
        return Ok(());
    };
    Err(Invalid {
        reason: Reason::RevisionTaken,
        field: "spec.revision".into(),
        message: format!(
            "MeshInstall {} already has revision {:?} (in namespace {}); choose another spec.revision, or delete one of the two",
            owner.name, owner.revision, owner.namespace
        ),
    })
}

fn foreign_control_plane(read: &Dereferenced) -> Result<(), Invalid> {
    let Some(deployment) = read.foreign_control_planes.first() else { return Ok(()) };
    Err(Invalid {
        reason: Reason::ForeignObject,
        field: "spec.namespace".into(),
        message: format!(
            "Deployment {}/{deployment} is a control plane that this operator did not make: remove that Istio from the \
             namespace, or choose another spec.namespace",
            read.spec.namespace
        ),
    })
}

fn terminating_namespace(read: &Dereferenced) -> Result<(), Invalid> {
    if read.namespaces.get(&read.spec.namespace) != Some(&NamespaceState::Terminating) {
        return Ok(());
    }
    Err(Invalid {
        reason: Reason::NamespaceUnavailable,
        field: "spec.namespace".into(),
        message: format!(
            "namespace {} is being deleted; the mesh is installed again once it is gone",
            read.spec.namespace
        ),
    })
}

/// The profile's gateways, changed and extended by the spec's.
fn gateways(read: &Dereferenced, defaults: &profile::Defaults) -> Result<Vec<Gateway>, Invalid> {
    let spec = &read.spec;
    let mut gateways = Vec::new();
    for (name, service_type) in defaults.gateways {
        let own = spec.gateways.iter().position(|gateway| gateway.name == *name);
        let entry = own.and_then(|index| Some((index, spec.gateways.get(index)?)));
        if entry.is_none_or(|(_, gateway)| gateway.enabled.unwrap_or(true)) {
            let (index, entry) = entry.map_or((0, None), |(index, gateway)| (index, Some(gateway)));
            let standard = GatewaySpec { name: (*name).to_owned(), ..GatewaySpec::default() };
            let mut gateway = gateway(read, index, entry.unwrap_or(&standard), defaults)?;
            gateway.service_type = entry.and_then(|gateway| gateway.type_).unwrap_or(*service_type);
            gateways.push(gateway);
        }
    }
    for (index, entry) in spec.gateways.iter().enumerate() {
        let of_profile = defaults.gateways.iter().any(|(name, _)| *name == entry.name);
        if !of_profile && entry.enabled.unwrap_or(true) {
            gateways.push(gateway(read, index, entry, defaults)?);
        }
    }
    Ok(gateways)
}

fn gateway(
    read: &Dereferenced,
    index: usize,
    entry: &GatewaySpec,
    defaults: &profile::Defaults,
) -> Result<Gateway, Invalid> {
    let field = |name: &str| format!("spec.gateways[{index}].{name}");
    let namespace = entry.namespace.clone().unwrap_or_else(|| read.spec.namespace.clone());
    // The mesh's own namespace is created; a gateway's is the user's.
    if namespace != read.spec.namespace {
        match read.namespaces.get(&namespace) {
            Some(NamespaceState::Active) => {}
            state => {
                return Err(Invalid {
                    reason: Reason::NamespaceUnavailable,
                    field: field("namespace"),
                    message: if state == Some(&NamespaceState::Terminating) {
                        format!("namespace {namespace:?} is being deleted; choose another, or wait and create it again")
                    } else {
                        format!("namespace {namespace:?} does not exist; create it, or choose another")
                    },
                });
            }
        }
    }
    for key in entry.labels.keys() {
        let reserved = ["install.forestay.dev/", "app.kubernetes.io/", "istio.io/rev"];
        if reserved.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(Invalid::spec(
                field("labels"),
                format!("label {key:?} is the operator's own; select the gateway by another one, for example istio"),
            ));
        }
    }
    Ok(Gateway {
        name: entry.name.clone(),
        namespace,
        service_type: entry.type_.unwrap_or_default(),
        ports: ports(&entry.ports, &field("ports"))?,
        replicas: entry.replicas,
        resources: entry.resources.clone().unwrap_or_else(|| defaults.gateway.clone()),
        labels: if entry.labels.is_empty() { profile::gateway_labels(&entry.name) } else { entry.labels.clone() },
    })
}

/// The ports of a gateway's Service, `status-port` always among them.
fn ports(own: &[ServicePort], field: &str) -> Result<Vec<GatewayPort>, Invalid> {
    let mut ports = if own.is_empty() { profile::gateway_ports() } else { Vec::new() };
    ports.extend(own.iter().map(|port| GatewayPort {
        name: port.name.clone(),
        port: port.port,
        target_port: port.target_port.unwrap_or(match port.port {
            80 => names::ports::GATEWAY_HTTP.into(),
            443 => names::ports::GATEWAY_HTTPS.into(),
            other => other,
        }),
        node_port: port.node_port,
        protocol: match port.protocol {
            TransportProtocol::TCP => "TCP",
            TransportProtocol::UDP => "UDP",
        },
    }));
    let status = profile::status_port();
    if !ports.iter().any(|port| port.name == status.name || port.port == status.port) {
        ports.insert(0, status);
    }
    let mut seen = BTreeMap::new();
    for port in &ports {
        if RESERVED.iter().any(|reserved| i32::from(*reserved) == port.target_port) {
            let message = format!(
                "{:?} ends at port {} of the pod, which the proxy itself listens on; give it another targetPort",
                port.name, port.target_port
            );
            return Err(Invalid::spec(field, message));
        }
        if let Some(other) = seen.insert((port.port, port.protocol), &port.name) {
            return Err(Invalid::spec(
                field,
                format!("{other:?} and {:?} are both on port {}; give one of them another", port.name, port.port),
            ));
        }
    }
    Ok(ports)
}

/// Names the field of a MeshConfig that is wrong. What a proxy or the control plane would only find out later, in a
/// log that nobody reads, is found here.
fn check_mesh_config(config: &Map<String, Value>) -> Result<(), Invalid> {
    let wrong = |path: &str, message: String| Err(Invalid::spec(format!("spec.meshConfig.{path}"), message));
    if let Err(error) = crds::parse::<crds::meshconfig::MeshConfig>(Value::Object(config.clone())) {
        return wrong(&error.path, error.message);
    }
    if let Some(trust_domain) = config.get("trustDomain").and_then(Value::as_str) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.chars().all(legal) {
            return wrong(
                "trustDomain",
                format!(
                    "{trust_domain:?} cannot be part of a SPIFFE identity: lower-case letters, digits, '.', '-' and '_' only"
                ),
            );
        }
    }
    // The control plane would move its listeners, and istio-init would go on redirecting to these.
    for (field, port) in
        [("proxyListenPort", names::ports::OUTBOUND), ("proxyInboundListenPort", names::ports::INBOUND)]
    {
        if let Some(other) = config.get(field).filter(|value| value.as_u64() != Some(port.into())) {
            return wrong(field, format!("{other} is not supported; pods' traffic is redirected to {port}"));
        }
    }
    if let Some(providers) = config.get("extensionProviders").and_then(Value::as_array) {
        let mut seen = BTreeMap::new();
        for (index, provider) in providers.iter().enumerate() {
            let path = format!("extensionProviders[{index}].name");
            let Some(name) = provider.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
                return wrong(&path, "a provider needs a name that Telemetry and AuthorizationPolicy refer to".into());
            };
            if let Some(first) = seen.insert(name, index) {
                return wrong(
                    &path,
                    format!("extensionProviders[{first}] is called {name:?} too; choose another name"),
                );
            }
        }
    }
    let metadata = config.get("defaultConfig").and_then(|proxy| proxy.get("proxyMetadata")).and_then(Value::as_object);
    for (key, value) in metadata.into_iter().flatten() {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(legal) {
            return wrong(
                "defaultConfig.proxyMetadata",
                format!("{key:?} cannot be the name of an environment variable"),
            );
        }
        if !value.is_string() && !value.is_null() {
            return wrong(
                &format!("defaultConfig.proxyMetadata.{key}"),
                format!("{value} becomes an environment variable: write it as a string, \"{value}\""),
            );
        }
    }
    Ok(())
}
