//! Virtual hosts, and the frame of a route configuration that they stand in.

use std::sync::Arc;

use xds::types::route as message;

use super::{At, Checked, Invalid, Refused, Shared, Viewpoint, absent, each, header, route, route_action};
use crate::{
    decide::{host::HostIndex, router::Router},
    ir::{
        header::HeaderOps,
        route::{RouteTable, VirtualHost},
    },
};

/// A route configuration without the virtual hosts that come as resources of their own.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Whether its virtual hosts come as resources of their own.
    pub(crate) vhds: bool,
    /// Virtual hosts that came with it.
    pub(crate) hosts: Vec<Arc<VirtualHost>>,
    ignore_port: bool,
    request_headers: HeaderOps,
    response_headers: HeaderOps,
    provenance: Option<Arc<xds::provenance::Provenance>>,
}

impl Frame {
    /// The route table with these virtual hosts beside its own.
    pub(crate) fn table(&self, hosts: &[Arc<VirtualHost>], viewpoint: &Viewpoint) -> RouteTable {
        let hosts = self.hosts.iter().chain(hosts).cloned().collect();
        // Whoever sends virtual hosts inline has written the short names out.
        let viewpoint = self.vhds.then_some(viewpoint);
        RouteTable {
            name: self.name.clone(),
            hosts: HostIndex::new(hosts, viewpoint),
            ignore_port: self.ignore_port,
            request_headers: self.request_headers.clone(),
            response_headers: self.response_headers.clone(),
            provenance: self.provenance.clone(),
        }
    }
}

/// A route configuration.
pub(crate) fn frame(message: &message::RouteConfiguration, shared: &Shared) -> Result<Frame, Refused> {
    checked_frame(message, shared).map_err(|invalid| invalid.of("RouteConfiguration", &message.name))
}

pub(super) fn checked_frame(message: &message::RouteConfiguration, shared: &Shared) -> Checked<Frame> {
    absent(message.vhost_header.is_empty(), "vhost_header")?;
    absent(message.internal_only_headers.is_empty(), "internal_only_headers")?;
    absent(message.cluster_specifier_plugins.is_empty(), "cluster_specifier_plugins")?;
    absent(message.request_mirror_policies.is_empty(), "request_mirror_policies")?;
    absent(!message.most_specific_header_mutations_wins, "most_specific_header_mutations_wins")?;
    absent(!message.ignore_path_parameters_in_path_matching, "ignore_path_parameters_in_path_matching")?;
    absent(message.typed_per_filter_config.is_empty(), "typed_per_filter_config")?;
    let hosts = each("virtual_hosts", &message.virtual_hosts, |host| checked(host, shared).map(Arc::new))?;
    let mut domains = std::collections::HashMap::new();
    for (index, host) in hosts.iter().enumerate() {
        for domain in &host.domains {
            if let Some(other) = domains.insert(domain.clone(), index)
                && other != index
            {
                let reason =
                    format!("{domain:?} stands in virtual_hosts[{other}] too; a domain can have one virtual host");
                return Err(Invalid::new(reason)).at("domains").at_index("virtual_hosts", index);
            }
        }
    }
    Ok(Frame {
        name: message.name.as_str().into(),
        vhds: message.vhds.is_some(),
        hosts,
        ignore_port: message.ignore_port_in_host_matching,
        request_headers: header::ops("request", &message.request_headers_to_add, &message.request_headers_to_remove)?,
        response_headers: header::ops(
            "response",
            &message.response_headers_to_add,
            &message.response_headers_to_remove,
        )?,
        provenance: shared.provenance(message.metadata.as_ref()),
    })
}

/// A virtual host that is a resource of its own, by the name of the resource.
pub(crate) fn compile(message: &message::VirtualHost, resource: &str, shared: &Shared) -> Result<VirtualHost, Refused> {
    checked(message, shared).map_err(|invalid| invalid.of("VirtualHost", resource))
}

fn checked(message: &message::VirtualHost, shared: &Shared) -> Checked<VirtualHost> {
    absent(message.matcher.is_none(), "matcher")?;
    absent(message.hedge_policy.is_none(), "hedge_policy")?;
    absent(message.retry_policy_typed_config.is_none(), "retry_policy_typed_config")?;
    let require_tls = match message::virtual_host::TlsRequirementType::try_from(message.require_tls) {
        Ok(message::virtual_host::TlsRequirementType::None) => false,
        Ok(message::virtual_host::TlsRequirementType::All) => true,
        Ok(message::virtual_host::TlsRequirementType::ExternalOnly) | Err(_) => {
            return Err(Invalid::unsupported("require_tls"));
        }
    };
    let domains = each("domains", &message.domains, |domain| self::domain(domain))?;
    if domains.is_empty() {
        return Err(Invalid::new("there is no domain")).at("domains");
    }
    let defaults = route_action::Defaults::of_host(message, shared)?;
    let routes = each("routes", &message.routes, |route| route::compile(route, &defaults).map(Arc::new))?;
    Ok(VirtualHost {
        name: message.name.as_str().into(),
        domains: domains.into(),
        router: Router::new(routes),
        require_tls,
        request_headers: header::ops("request", &message.request_headers_to_add, &message.request_headers_to_remove)?,
        response_headers: header::ops(
            "response",
            &message.response_headers_to_add,
            &message.response_headers_to_remove,
        )?,
        include_attempt_count: message.include_request_attempt_count,
        provenance: shared.provenance(message.metadata.as_ref()),
    })
}

/// A domain in the form that is looked up: lower case, and without the dot at the end that makes it absolute.
fn domain(domain: &str) -> Checked<Box<str>> {
    let fixed = domain.strip_prefix('*').or_else(|| domain.strip_suffix('*')).unwrap_or(domain);
    if fixed.contains('*') {
        return Err(Invalid::new(format!("{domain:?}: a wildcard stands at the beginning or at the end")));
    }
    if domain.is_empty() {
        return Err(Invalid::new("is empty"));
    }
    Ok(domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase().into())
}
