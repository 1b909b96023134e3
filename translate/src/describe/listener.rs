//! Listeners for people.

use serde_json::{Map, Value, json};
use xds::any;
use xds::types::google::Any;
use xds::types::http_connection_manager::HttpConnectionManager;
use xds::types::http_connection_manager::http_connection_manager::RouteSpecifier;
use xds::types::listener::filter::ConfigType;
use xds::types::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use xds::types::tcp_proxy::{TcpProxy, tcp_proxy::ClusterSpecifier};

use super::{address, route, texts};

pub(super) fn listener(of: &Listener) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(of) = of.api_listener.as_ref().and_then(|of| of.api_listener.as_ref()) {
        out.insert("for gRPC".to_owned(), json!(http(of).unwrap_or_else(|| of.type_url.clone())));
        return out;
    }
    let bound = of.bind_to_port.is_none_or(|bind| bind.value);
    let address = address(of.address.as_ref());
    out.insert("on".to_owned(), json!(if bound { address } else { format!("{address}, not bound") }));
    let chains = of.filter_chains.iter().map(|of| chain(of, None));
    let last = of.default_filter_chain.iter().map(|of| chain(of, Some("anything else")));
    out.insert("chains".to_owned(), texts(chains.chain(last)));
    out
}

fn chain(of: &FilterChain, asked: Option<&str>) -> String {
    let asked =
        asked.map_or_else(|| of.filter_chain_match.as_ref().map_or("anything".to_owned(), matches), str::to_owned);
    let terminates = if of.transport_socket.is_some() { ", terminates" } else { "" };
    let filters: Vec<_> = of.filters.iter().map(filter).collect();
    let name = if of.name.is_empty() { String::new() } else { format!("{}: ", of.name) };
    format!("{name}{asked}{terminates} -> {}", filters.join(", "))
}

fn matches(of: &FilterChainMatch) -> String {
    let mut parts = Vec::new();
    parts.extend(of.destination_port.map(|port| format!("port {}", port.value)));
    parts.extend(Some(of.transport_protocol.clone()).filter(|it| !it.is_empty()));
    parts.extend((!of.application_protocols.is_empty()).then(|| of.application_protocols.join("|")));
    parts.extend((!of.server_names.is_empty()).then(|| format!("for {}", of.server_names.join("|"))));
    if parts.is_empty() { "anything".to_owned() } else { parts.join(" ") }
}

fn filter(of: &Filter) -> String {
    let Some(ConfigType::TypedConfig(config)) = &of.config_type else { return of.name.clone() };
    if let Ok(tcp) = any::unpack::<TcpProxy>(config) {
        return match tcp.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => format!("tcp {cluster}"),
            _ => "tcp ?".to_owned(),
        };
    }
    http(config).unwrap_or_else(|| of.name.clone())
}

fn http(config: &Any) -> Option<String> {
    let http = any::unpack::<HttpConnectionManager>(config).ok()?;
    Some(match http.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => format!("http routes {}", rds.route_config_name),
        Some(RouteSpecifier::RouteConfig(routes)) => {
            let routes = routes.virtual_hosts.iter().flat_map(|host| &host.routes).map(route::line);
            format!("http {}", routes.collect::<Vec<_>>().join("; "))
        }
        _ => "http ?".to_owned(),
    })
}
