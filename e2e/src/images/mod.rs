//! Container images without a container engine.
//!
//! In come static binaries and a few of Debian's packages; out go OCI archives in the cache, named after their content,
//! which `ctr images import` reads. [`layer`] writes a file system, [`archive`] puts layers and images together,
//! `debian` and `java` fetch real programs, [`catalogue`] says which images there are.

pub mod archive;
pub mod catalogue;
mod debian;
mod java;
pub mod layer;

pub use archive::{Archive, Image, SealedLayer, write};
pub use catalogue::{
    Binaries, CURL_IMAGE, GRPC_ECHO_IMAGE, HTTPBIN_IMAGE, NEXT, PROBED_IMAGE, grpc_echo, httpbin, mesh, probed,
    prometheus, samples, zipkin,
};
pub use layer::Layer;
