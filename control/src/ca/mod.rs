//! The mesh's certificate authority: who a caller is, and the certificate that says so.
//!
//! * [`authority`]: key and certificates of the authority; issues certificates. Pure.
//! * [`rotation`]: when a certificate is to be renewed. Pure.
//! * [`token`]: a service account token becomes an identity, by TokenReview.
//! * [`store`]: the authority in Secrets `cacerts` and `istio-ca-secret`, or in a folder, and its renewal.
//! * [`trust`]: the root certificate in ConfigMap `istio-ca-root-cert` of every namespace.

pub(crate) mod authority;
pub(crate) mod rotation;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod trust;

pub(crate) use authority::{Authority, Material};
