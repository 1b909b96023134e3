//! A gRPC server's side: a listener for each of its ports, that says who may connect.
//!
//! A server asks for the address that it listens on, which only it knows: there is one listener for each address that it
//! can be. Ports that no service leads to have none, and a server that listens there stays closed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::security::peer_authentication::MutualTlsMode;
use xds::provenance::Provenance;
use xds::types::listener::{FilterChain, Listener};
use xds::types::route::route::Action;
use xds::types::route::{NonForwardingAction, Route, RouteConfiguration, VirtualHost};
use xds::types::socket_address;

use super::tls;
use crate::cache::Cache;
use crate::projection::{GrpcServer, InboundPort};
use crate::resource::Part;
use crate::to_xds::filters::{self, Routes, Side};
use crate::to_xds::route_match;

/// Everything that a server of this projection needs.
pub(crate) fn inbound(projection: &GrpcServer, cache: &mut Cache) -> Part {
    let mut part = Part::default();
    let anywhere = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let own = projection.addresses.iter().filter_map(|address| address.parse().ok());
    let addresses: BTreeSet<IpAddr> = anywhere.into_iter().chain(own).collect();
    for port in &projection.ports {
        let provenance = port.services.first().map(|service| service.provenance.clone());
        for address in &addresses {
            let listener = listener(*address, port, projection.marked, provenance.as_ref());
            cache.listener(&mut part, &listener, provenance.clone());
        }
    }
    part
}

fn listener(address: IpAddr, port: &InboundPort, marked: bool, provenance: Option<&Provenance>) -> Listener {
    Listener {
        name: names::traffic::grpc_server_listener(address, port.number),
        // It must be the address that was asked for, or the server stays closed.
        address: Some(socket_address(address.to_string(), port.number)),
        filter_chains: vec![chain(terminates(port.mode, marked))],
        metadata: provenance.map(Provenance::metadata),
        ..Default::default()
    }
}

/// gRPC servers cannot take both plain text and TLS on one port. PERMISSIVE is therefore plain text, unless the pod is
/// marked as one that speaks mesh TLS: then its clients do.
fn terminates(mode: MutualTlsMode, marked: bool) -> bool {
    match mode {
        MutualTlsMode::Strict => true,
        MutualTlsMode::Disable => false,
        MutualTlsMode::Permissive | MutualTlsMode::Unset => marked,
    }
}

fn chain(terminates: bool) -> FilterChain {
    let route = Route {
        r#match: Some(route_match::everything()),
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..Default::default()
    };
    let routes = RouteConfiguration {
        name: "inbound".to_owned(),
        virtual_hosts: vec![VirtualHost { domains: vec!["*".to_owned()], routes: vec![route], ..Default::default() }],
        ..Default::default()
    };
    let manager = filters::grpc(Routes::Inline(Box::new(routes)), Side::Inbound);
    FilterChain {
        name: format!("inbound-{}", if terminates { "mtls" } else { "plaintext" }),
        filters: vec![filters::connection_manager(&manager)],
        transport_socket: terminates.then(tls::server),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_connect_follows_the_mode_and_the_mark() {
        for (mode, marked, expected) in [
            (MutualTlsMode::Strict, false, true),
            (MutualTlsMode::Strict, true, true),
            (MutualTlsMode::Disable, true, false),
            (MutualTlsMode::Permissive, false, false),
            (MutualTlsMode::Permissive, true, true),
            (MutualTlsMode::Unset, false, false),
        ] {
            assert_eq!(terminates(mode, marked), expected, "{mode:?}, marked: {marked}");
        }
    }
}
