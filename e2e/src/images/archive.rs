//! OCI image archives: layers and images in, one file out that `ctr images import` reads.
//!
//! The format is the OCI image layout in a tar: `oci-layout`, `index.json`, and blobs by their SHA-256. Several images
//! may share an archive; a layer that they share is in it once.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use names::images::{ARCHITECTURE, OS};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layer::{Layer, append};

/// How long an archive stays in the cache that nobody asks for any more. Every build of a program makes one, of up to
/// 80 MB, and they are made again in seconds.
const KEEP: Duration = Duration::from_hours(3 * 24);

/// A layer in its final form, to be shared between images.
#[derive(Clone, Debug)]
pub struct SealedLayer {
    digest: String,
    tar: Arc<[u8]>,
}

impl SealedLayer {
    /// Writes a layer's tar and takes its digest.
    pub fn new(layer: &Layer) -> Result<Self> {
        let tar = layer.to_tar()?;
        Ok(Self { digest: digest(&tar), tar: tar.into() })
    }
}

/// One image: its name, its layers from the lowest to the highest, and how its process starts.
#[derive(Clone, Debug)]
pub struct Image {
    /// The full reference, `<registry>/<path>:<tag>`.
    pub reference: String,
    /// The layers, lowest first.
    pub layers: Vec<SealedLayer>,
    /// The command, as `ENTRYPOINT` has it.
    pub entrypoint: Vec<String>,
    /// Environment variables, `NAME=value`.
    pub environment: Vec<String>,
    /// The user, numeric so that `runAsNonRoot` can be checked; empty for root.
    pub user: String,
}

/// An archive in the cache.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where it is.
    pub path: PathBuf,
    /// The references of the images in it.
    pub images: Vec<String>,
    /// A hash of its whole content.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it was there already.
    pub cached: bool,
}

/// Writes the images into `folder` as `<stem>-<hash of the content>.tar`, unless that very archive is there.
pub fn write(folder: &Path, stem: &str, images: &[Image]) -> Result<Archive> {
    let mut blobs = BTreeMap::new();
    let manifests: Vec<Value> = images.iter().map(|image| describe(image, &mut blobs)).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
    .to_string();
    let digest = digest(index.as_bytes());
    let path = folder.join(format!("{stem}-{}.tar", short(&digest)));
    let references = images.iter().map(|image| image.reference.clone()).collect();
    if let Ok(metadata) = path.metadata() {
        // The time of last use decides what is forgotten. A cache that we may only read serves as well.
        let _ = File::open(&path).and_then(|archive| archive.set_modified(SystemTime::now()));
        return Ok(Archive { size: metadata.len(), path, images: references, digest, cached: true });
    }

    let mut tar = Vec::new();
    append(&mut tar, "oci-layout", 0o644, b'0', "", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", 0o644, b'0', "", index.as_bytes())?;
    for (digest, blob) in &blobs {
        append(&mut tar, &format!("blobs/sha256/{digest}"), 0o644, b'0', "", blob)?;
    }
    tar.resize(tar.len() + 1024, 0);

    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    forget_old(folder, SystemTime::now());
    // Written beside and renamed, so that a reader never sees half an archive.
    let beside = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("writing to {}", folder.display()))?;
    std::fs::write(beside.path(), &tar).with_context(|| format!("writing {}", path.display()))?;
    beside.persist(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(Archive { path, images: references, digest, size: tar.len() as u64, cached: false })
}

/// Adds an image's blobs and gives its entry in the index.
fn describe(image: &Image, blobs: &mut BTreeMap<String, Arc<[u8]>>) -> Value {
    for layer in &image.layers {
        blobs.insert(layer.digest.clone(), layer.tar.clone());
    }
    let config = add(
        blobs,
        &json!({
            "architecture": ARCHITECTURE,
            "os": OS,
            "config": { "Entrypoint": image.entrypoint, "Env": image.environment, "User": image.user, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": image.layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect::<Vec<_>>() },
        }),
    );
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", &layer.digest, layer.tar.len()))
        .collect();
    let manifest = add(
        blobs,
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config.0, config.1),
            "layers": layers,
        }),
    );
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest.0, manifest.1);
    let tag = image.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] =
        json!({ "io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": tag });
    entry["platform"] = json!({ "architecture": ARCHITECTURE, "os": OS });
    entry
}

fn add(blobs: &mut BTreeMap<String, Arc<[u8]>>, document: &Value) -> (String, usize) {
    let bytes = document.to_string().into_bytes();
    let (digest, size) = (digest(&bytes), bytes.len());
    blobs.insert(digest.clone(), bytes.into());
    (digest, size)
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

/// The SHA-256 of some bytes in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Removes archives that nobody has used for [`KEEP`]. Failures do not matter: it is a cache.
fn forget_old(folder: &Path, now: SystemTime) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name
            .to_str()
            .and_then(|name| name.strip_suffix(".tar")?.rsplit_once('-'))
            .is_some_and(|(_, hash)| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let used = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let unused = used.and_then(|used| now.duration_since(used).ok());
        if ours && unused.is_some_and(|unused| unused > KEEP) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::File;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use serde_json::Value;

    use super::{Archive, Image, KEEP, Layer, SealedLayer, digest, forget_old, write};

    fn build(folder: &std::path::Path) -> Archive {
        let layer = |path: &str, content: &str| {
            let mut layer = Layer::new();
            layer.file(path, 0o755, content);
            SealedLayer::new(&layer).unwrap()
        };
        let shared = layer("/bin/shared", "shared");
        let image = |name: &str, layers: &[&SealedLayer]| Image {
            reference: format!("example.org/{name}:1.2.3"),
            layers: layers.iter().copied().cloned().collect(),
            entrypoint: vec!["/bin/shared".to_owned(), name.to_owned()],
            environment: vec!["A=b".to_owned()],
            user: "1000".to_owned(),
        };
        write(folder, "pair", &[image("one", &[&shared]), image("two", &[&shared, &layer("/bin/own", "own")])]).unwrap()
    }

    #[test]
    fn every_blob_is_there_once_under_its_digest_and_nothing_dangles() {
        let folder = tempfile::tempdir().unwrap();
        let archive = build(folder.path());
        assert!(!archive.cached);
        assert_eq!(archive.images, ["example.org/one:1.2.3", "example.org/two:1.2.3"]);
        assert!(
            Command::new("tar").arg("-xf").arg(&archive.path).arg("-C").arg(folder.path()).status().unwrap().success()
        );

        let mut blobs = BTreeMap::new();
        for entry in folder.path().join("blobs/sha256").read_dir().unwrap() {
            let path = entry.unwrap().path();
            let (name, content) =
                (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
            assert_eq!(name, digest(&content));
            blobs.insert(format!("sha256:{name}"), content);
        }
        assert_eq!(blobs.len(), 2 + 2 + 2, "two configurations, two manifests, two layers");

        let index: Value = serde_json::from_slice(&std::fs::read(folder.path().join("index.json")).unwrap()).unwrap();
        let names: Vec<&str> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["example.org/one:1.2.3", "example.org/two:1.2.3"]);
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
        for entry in index["manifests"].as_array().unwrap() {
            let manifest: Value = serde_json::from_slice(&blobs[entry["digest"].as_str().unwrap()]).unwrap();
            let config: Value = serde_json::from_slice(&blobs[manifest["config"]["digest"].as_str().unwrap()]).unwrap();
            let layers = manifest["layers"].as_array().unwrap();
            let listed: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
            assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().iter().collect::<Vec<_>>(), listed);
            for layer in layers {
                assert_eq!(layer["size"], blobs[layer["digest"].as_str().unwrap()].len());
            }
            assert_eq!(config["config"]["User"], "1000");
        }
    }

    #[test]
    fn the_same_content_is_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let first = build(folder.path());
        let second = build(folder.path());
        assert!(second.cached);
        assert_eq!((first.path, first.digest, first.size), (second.path, second.digest, second.size));
    }

    #[test]
    fn what_nobody_uses_any_more_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let used = build(folder.path()).path;
        let day = Duration::from_hours(24);
        let now = SystemTime::now();
        for (name, age) in [
            ("proxyv2-0123456789abcdef.tar", KEEP + day),
            ("forestay-next-0123456789abcdef.tar", KEEP + day),
            ("proxyv2-00000000000000ff.tar", day),
            ("somebody-elses.tar", KEEP + day),
        ] {
            File::create(folder.path().join(name)).unwrap().set_modified(now - age).unwrap();
        }
        File::open(&used).unwrap().set_modified(now - KEEP - day).unwrap();
        assert!(build(folder.path()).cached, "asked for again, it is one that is used");
        forget_old(folder.path(), now);
        let left: BTreeSet<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        let expected = ["proxyv2-00000000000000ff.tar", "somebody-elses.tar"].map(|name| folder.path().join(name));
        assert_eq!(left, expected.into_iter().chain([used]).collect());
    }
}
