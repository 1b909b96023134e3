//! A small image for tests of the box itself: busybox, which has a shell, an HTTP server and a resolver.
//!
//! (Its wget dies with a null pointer in an image without the machine's shared libraries; `nc` does as well.)

use std::path::{Path, PathBuf};

use anyhow::Result;
use forestay_e2e::images::{Image, Layer, SealedLayer, write};
use forestay_e2e::progress::PlainLines;
use forestay_e2e::tools::{Cache, ensure_packages};

/// The image's name.
pub(crate) const IMAGE: &str = "mesh.local/probe:1";

/// The archive of the image.
pub(crate) fn archive() -> Result<PathBuf> {
    ensure_packages(&["busybox-static"], &PlainLines)?;
    let mut layer = Layer::new();
    layer.copy("/bin/busybox", 0o755, Path::new("/bin/busybox"))?;
    for name in ["sh", "httpd", "nslookup", "nc", "sleep", "cat"] {
        layer.link(format!("/bin/{name}"), "busybox");
    }
    let image = Image {
        reference: IMAGE.to_owned(),
        layers: vec![SealedLayer::new(&layer)?],
        entrypoint: vec!["/bin/sh".to_owned()],
        environment: vec!["PATH=/bin".to_owned()],
        user: String::new(),
    };
    Ok(write(&Cache::open()?.folder("images"), "probe", &[image])?.path)
}
