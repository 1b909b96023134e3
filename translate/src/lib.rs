//! What a mesh's objects mean, and what each proxy has to know of it. Pure: no clock, no socket, no client.
//!
//! Objects come in as [`model`] inputs; a [`Snapshot`] indexes those of one moment; [`translate`] turns a snapshot and
//! a proxy into a [`ResourceSet`], with the [`Problem`]s that it met. Work is shared: each kind of resource is computed
//! once per [`projection`] of a proxy, which is what the resource reads of it, and kept in a [`Cache`].
//!
//! * [`model`]: services, workloads, rules, and which of them count for whom
//! * [`to_xds`]: listeners, routes, clusters and endpoints
//! * [`projection`], [`cache`]: what is computed once and shared
//! * [`resource`], [`problem`], [`describe()`]: what comes out

pub mod model;
