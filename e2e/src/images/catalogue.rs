//! Which images there are, and what is in each.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    archive::{Archive, Image, SealedLayer, write},
    debian::Root,
    java,
    layer::Layer,
};
use crate::tools::Cache;

/// The folder of the next version's programs, beside this version's.
pub const NEXT: &str = "next";
/// The folder of the archives in the cache.
const FOLDER: &str = "images";
/// The tag of Bookinfo's images in upstream's YAML.
const BOOKINFO_TAG: &str = "1.20.3";
/// The image of upstream's samples `curl` and `sleep`.
pub const CURL_IMAGE: &str = "docker.io/curlimages/curl:8.16.0";
/// The image of upstream's sample `httpbin`.
pub const HTTPBIN_IMAGE: &str = "docker.io/mccutchen/go-httpbin:v2.15.0";
/// The image of `e2e/go-probed`.
pub const PROBED_IMAGE: &str = "mesh.local/probed:1";
/// The image of `e2e/go-grpc-echo`.
pub const GRPC_ECHO_IMAGE: &str = "mesh.local/grpc-echo:1";
/// The user that Bookinfo's and curl's images run as, as upstream's.
const SAMPLE_USER: &str = "1000";

/// Bookinfo's images: the end of the image's name, the role of the program, its environment.
const BOOKINFO: [(&str, &str, &[&str]); 6] = [
    ("productpage-v1", "productpage", &[]),
    ("details-v1", "details", &[]),
    ("ratings-v1", "ratings", &["SERVICE_VERSION=v1"]),
    ("reviews-v1", "reviews", &["SERVICE_VERSION=v1", "ENABLE_RATINGS=false"]),
    ("reviews-v2", "reviews", &["SERVICE_VERSION=v2", "ENABLE_RATINGS=true", "STAR_COLOR=black"]),
    ("reviews-v3", "reviews", &["SERVICE_VERSION=v3", "ENABLE_RATINGS=true", "STAR_COLOR=red"]),
];

/// The static binaries that images are made of, as `cargo build` leaves them.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
    /// Where a binary is taken from that is there.
    preferred: Option<PathBuf>,
}

impl Binaries {
    /// The binaries in that folder, for example `target/x86_64-unknown-linux-gnu/debug`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), preferred: None }
    }

    /// The same, but for binaries that are in that folder, for example `target/x86_64-unknown-linux-gnu/release`.
    #[must_use]
    pub fn preferring(self, folder: Option<PathBuf>) -> Self {
        Self { preferred: folder, ..self }
    }

    /// Where a binary is.
    pub fn path(&self, name: &str) -> PathBuf {
        let preferred = self.preferred.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
        preferred.unwrap_or_else(|| self.folder.join(name))
    }

    /// Those of the same code under [`names::NEXT_VERSION`], which `cargo xtask test` builds for the upgrade scenarios.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::in_folder(self.folder.join(NEXT))
    }

    /// A binary's content without its symbols, which are most of a development build.
    fn stripped(&self, name: &str) -> Result<Vec<u8>> {
        let binary = self.path(name);
        if !binary.exists() {
            bail!(
                "{}: not built; `cargo xtask images` builds it, `cargo xtask test --scenario upgrade` those of the next version",
                binary.display()
            );
        }
        let stripped = tempfile::NamedTempFile::new()?;
        let output = Command::new("strip")
            .args(["--strip-all", "-o"])
            .args([stripped.path(), &binary])
            .output()
            .context("starting strip (Debian package binutils)")?;
        if !output.status.success() {
            bail!("strip {}: {}", binary.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(std::fs::read(stripped.path())?)
    }
}

/// Builds the mesh's own two images: the proxy and the multi-call binary.
pub fn mesh(binaries: &Binaries, version: &str, cache: &Cache) -> Result<Vec<Archive>> {
    let image = |name: &str, binary: &str, path: &str| {
        let mut layer = Layer::new();
        layer.file(path, 0o755, binaries.stripped(binary)?);
        layer.directory("/tmp", 0o1777);
        let id = names::ports::PROXY_UID;
        layer.file("/etc/passwd", 0o644, format!("root:x:0:0::/:\nistio-proxy:x:{id}:{id}::/:\n"));
        layer.file("/etc/group", 0o644, format!("root:x:0:\nistio-proxy:x:{id}:\n"));
        let image = Image {
            reference: names::images::reference(names::images::HUB, name, version),
            layers: vec![SealedLayer::new(&layer)?],
            entrypoint: vec![path.to_owned()],
            environment: vec!["PATH=/usr/local/bin".to_owned()],
            user: format!("{id}:{id}"),
        };
        write(&cache.folder(FOLDER), name, &[image])
    };
    Ok(vec![
        image(names::images::PROXY, "forestay-proxy", "/usr/local/bin/pilot-agent")?,
        image(names::images::FORESTAY, "forestay", "/usr/local/bin/forestay")?,
    ])
}

/// Builds Bookinfo's images and the client image, under the names that upstream's YAML uses. One archive: they share
/// the program's layer, and the layer with curl.
pub fn samples(binaries: &Binaries, cache: &Cache) -> Result<Archive> {
    let mut program = Layer::new();
    program.file("/opt/microservices/bookinfo", 0o755, binaries.stripped("bookinfo")?);
    program.directory("/tmp", 0o1777);
    let program = SealedLayer::new(&program)?;
    let shell = SealedLayer::new(&shell_and_curl(cache)?)?;

    let mut images: Vec<Image> = BOOKINFO
        .iter()
        .map(|(name, role, environment)| Image {
            reference: format!("registry.istio.io/release/examples-bookinfo-{name}:{BOOKINFO_TAG}"),
            layers: if *role == "ratings" { vec![shell.clone(), program.clone()] } else { vec![program.clone()] },
            entrypoint: ["/opt/microservices/bookinfo", role, "9080"].map(str::to_owned).to_vec(),
            environment: environment
                .iter()
                .map(|variable| (*variable).to_owned())
                .chain(["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()])
                .collect(),
            user: SAMPLE_USER.to_owned(),
        })
        .collect();
    images.push(Image {
        reference: CURL_IMAGE.to_owned(),
        layers: vec![shell],
        entrypoint: vec!["/usr/bin/curl".to_owned()],
        environment: vec!["PATH=/usr/bin:/bin".to_owned()],
        user: SAMPLE_USER.to_owned(),
    });
    write(&cache.folder(FOLDER), "samples", &images)
}

/// Builds the image of upstream's sample `httpbin` from the program [`crate::tools::httpbin`].
pub fn httpbin(program: &Path, cache: &Cache) -> Result<Archive> {
    one_program(HTTPBIN_IMAGE, "httpbin", "/bin/go-httpbin", program, cache)
}

/// Builds the image of the program [`crate::tools::probed`].
pub fn probed(program: &Path, cache: &Cache) -> Result<Archive> {
    one_program(PROBED_IMAGE, "probed", "/bin/probed", program, cache)
}

/// Builds the image of the program [`crate::tools::grpc_echo`].
pub fn grpc_echo(program: &Path, cache: &Cache) -> Result<Archive> {
    one_program(GRPC_ECHO_IMAGE, "grpc-echo", "/bin/grpc-echo", program, cache)
}

/// Builds the image of the addon Prometheus, under its upstream name, from the program [`crate::tools::prometheus`].
pub fn prometheus(program: &Path, cache: &Cache) -> Result<Archive> {
    let mut layer = Layer::new();
    layer.copy("/bin/prometheus", 0o755, program)?;
    let image = Image {
        reference: names::images::PROMETHEUS.to_owned(),
        layers: vec![SealedLayer::new(&layer)?],
        entrypoint: vec!["/bin/prometheus".to_owned()],
        environment: vec!["PATH=/bin".to_owned()],
        // By name, as upstream's: the pod must say which number it is.
        user: "nobody".to_owned(),
    };
    write(&cache.folder(FOLDER), "prometheus", &[image])
}

/// Builds the image of the addon Zipkin, under its upstream name, from [`crate::tools::zipkin`] and
/// [`crate::tools::java_runtime`].
pub fn zipkin(jar: &Path, runtime: &Path, cache: &Cache) -> Result<Archive> {
    let mut program = Layer::new();
    program.copy("/zipkin/zipkin.jar", 0o644, jar)?;
    let image = Image {
        reference: names::images::ZIPKIN.to_owned(),
        layers: vec![SealedLayer::new(&java::layer(runtime)?)?, SealedLayer::new(&program)?],
        // A small heap, and a compiler that is soon done: it has to start, not to be fast.
        entrypoint: [
            "/java/bin/java",
            "-Xms32m",
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-jar",
            "/zipkin/zipkin.jar",
        ]
        .map(str::to_owned)
        .into(),
        environment: vec!["PATH=/java/bin".to_owned()],
        user: SAMPLE_USER.to_owned(),
    };
    write(&cache.folder(FOLDER), "zipkin", &[image])
}

fn one_program(reference: &str, name: &str, path: &str, program: &Path, cache: &Cache) -> Result<Archive> {
    let mut layer = Layer::new();
    layer.copy(path, 0o755, program)?;
    layer.directory("/tmp", 0o1777);
    let image = Image {
        reference: reference.to_owned(),
        layers: vec![SealedLayer::new(&layer)?],
        entrypoint: vec![path.to_owned()],
        environment: vec!["PATH=/bin".to_owned()],
        user: SAMPLE_USER.to_owned(),
    };
    write(&cache.folder(FOLDER), name, &[image])
}

/// Debian's curl with its libraries, certificate authorities, and busybox for everything else.
fn shell_and_curl(cache: &Cache) -> Result<Layer> {
    let root = Root::of(&cache.folder("debian"), &["curl", "busybox-static", "ca-certificates"])?;
    let mut layer = Layer::new();
    root.add_busybox(&mut layer)?;
    root.add_program(&mut layer, "/usr/bin/curl")?;
    root.add_certificate_authorities(&mut layer)?;
    layer.directory("/tmp", 0o1777);
    layer.file(
        "/etc/passwd",
        0o644,
        format!("root:x:0:0::/:/bin/sh\nsample:x:{SAMPLE_USER}:{SAMPLE_USER}::/tmp:/bin/sh\n"),
    );
    Ok(layer)
}
