//! One reconciliation of a MeshInstall, step by step; each step is a file.
//!
//! [`dereference`] (read what it names) -> [`validate`] (what it means, or which field is wrong) -> [`build`] (plain
//! objects) -> [`apply`] -> [`prune`] -> [`status`]; [`upgrade`] gives each object its turn on the way to another version;
//! [`applyset`] is the record of what was made, [`basis`] what an object must still find when it is written;
//! [`finalize`] and [`purge`] when it is deleted, called by [`deletion`]. [`authority`] says why the mesh's own
//! certificate authority cannot be used, [`trust`] is the webhook's certificate authority, [`mesh_config`] and [`profile`]
//! what a spec starts from; [`injection`] is for the command line;
//! [`written`] makes up for a watch that is behind.

pub(crate) mod apply;
pub(crate) mod applyset;
mod authority;
mod basis;
pub(crate) mod build;
mod deletion;
pub(crate) mod dereference;
pub(crate) mod finalize;
pub(crate) mod injection;
pub(crate) mod mesh;
mod mesh_config;
mod pod_trouble;
mod profile;
pub(crate) mod prune;
mod purge;
pub(crate) mod reconcile;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod tokens;
pub(crate) mod trust;
pub(crate) mod upgrade;
pub(crate) mod validate;
pub(crate) mod written;
