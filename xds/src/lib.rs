//! What a control plane and a proxy of Forestay must agree on. No I/O.
//!
//! * [`types`]: Envoy's configuration messages and the discovery service, under short names
//! * [`type_url`]: the type of each kind of resource, as it goes over the wire
//! * [`any`], [`canonical`]: packing and unpacking; the same message always gives the same bytes
//! * [`version`]: the hash of a resource's content, which is its version
//! * [`node`]: who a proxy says it is; [`peer`]: who it says it is to another proxy
//! * [`provenance`], [`service`], [`workload`]: the metadata on resources, clusters and endpoints
//! * [`dynamic`]: reading and writing `google.protobuf.Struct`
//! * [`certificates`]: `istio.v1.auth.IstioCertificateService`, by which a proxy gets its certificate

pub mod any;
pub mod canonical;
pub mod certificates;
pub mod dynamic;
pub mod node;
pub mod peer;
pub mod provenance;
pub mod service;
pub mod type_url;
pub mod types;
pub mod version;
pub mod workload;
