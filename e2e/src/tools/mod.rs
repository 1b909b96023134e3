//! What a box is made of: Debian's packages, Go's binaries, two small images. Found, installed or built once, and kept
//! in a cache outside the work tree under a key of everything that went into them.

mod cache;
mod debian;
mod go;
mod java;
mod pause;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use cache::{Cache, Key};
pub use debian::ensure as ensure_packages;

use crate::images::{Image, Layer, SealedLayer};
use crate::kube_box::{DNS_IMAGE, PAUSE_IMAGE};
use crate::progress::{Progress, step};

/// Everything that a box needs from outside.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Every part of a Kubernetes node, and kubectl, in one binary.
    pub kubenode: PathBuf,
    /// The container runtime.
    pub containerd: PathBuf,
    /// The archive of the images that every box has: the pods' sandbox and CoreDNS.
    pub base_images: PathBuf,
}

/// Makes everything that a box needs; quick when it is there already.
pub fn for_box(progress: &dyn Progress) -> Result<Tools> {
    let cache = Cache::open()?;
    debian::ensure(&debian::BOX, progress)?;
    let kubenode = go::build(&cache, &go::KUBENODE, progress)?;
    let coredns = go::build(&cache, &go::COREDNS, progress)?;
    let pause = pause::build(&cache, progress)?;
    // The paths carry the keys of what is in the files.
    let key = Key::new().text("format 1").path(&coredns).path(&pause);
    let base_images = cache.file("base-images.tar", key, |to| {
        step(progress, "pack the box's own images", || {
            let images = [image(PAUSE_IMAGE, "/pause", &pause)?, image(DNS_IMAGE, "/coredns", &coredns)?];
            let folder = to.parent().context("the cache's entry has a folder")?;
            let archive = crate::images::write(folder, "kube-box", &images)?;
            fs::rename(&archive.path, to).with_context(|| format!("rename to {}", to.display()))
        })
    })?;
    let containerd = PathBuf::from("/usr/bin/containerd");
    Ok(Tools { kubenode, containerd, base_images })
}

fn image(reference: &str, program: &str, binary: &Path) -> Result<Image> {
    let mut layer = Layer::new();
    layer.copy(program, 0o755, binary)?;
    Ok(Image {
        reference: reference.to_owned(),
        layers: vec![SealedLayer::new(&layer)?],
        entrypoint: vec![program.to_owned()],
        environment: Vec::new(),
        user: String::new(),
    })
}

/// go-httpbin, the program of Istio's sample `httpbin`.
pub fn httpbin(progress: &dyn Progress) -> Result<PathBuf> {
    go::build(&Cache::open()?, &go::HTTPBIN, progress)
}

/// OLM's validators as one program, `olm-check`.
pub fn olm_checker(progress: &dyn Progress) -> Result<PathBuf> {
    go::build(&Cache::open()?, &go::OLM_CHECK, progress)
}

/// `e2e/go-probed`, an application whose health can be switched.
pub fn probed(progress: &dyn Progress) -> Result<PathBuf> {
    go::build(&Cache::open()?, &go::PROBED, progress)
}

/// `e2e/go-grpc-echo`, an application whose gRPC library reads xDS itself.
pub fn grpc_echo(progress: &dyn Progress) -> Result<PathBuf> {
    go::build(&Cache::open()?, &go::GRPC_ECHO, progress)
}

/// Prometheus, in the version of Istio's sample.
pub fn prometheus(progress: &dyn Progress) -> Result<PathBuf> {
    go::build(&Cache::open()?, &go::PROMETHEUS, progress)
}

/// Zipkin's server, the small distribution, as one jar.
pub fn zipkin(progress: &dyn Progress) -> Result<PathBuf> {
    java::zipkin(&Cache::open()?, progress)
}

/// A folder with a Java runtime: Debian's, cut down to what programs without windows need.
pub fn java_runtime(progress: &dyn Progress) -> Result<PathBuf> {
    java::runtime(&Cache::open()?, progress)
}

/// Boxes need root: namespaces, mounts, control groups.
pub fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("needs root (namespaces, mounts, control groups): run it with sudo");
    }
    Ok(())
}
