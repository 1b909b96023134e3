//! The Go binaries, built from the modules in `e2e/go`, `e2e/go-httpbin`, `e2e/go-probed`, `e2e/go-grpc-echo`,
//! `e2e/go-prometheus` and `e2e/go-olm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cache::{Cache, Key};
use crate::progress::{Progress, step};

/// One `main` package.
pub(crate) struct Program {
    name: &'static str,
    /// The folder of its module, in `e2e/`.
    module: &'static str,
    /// Its package: a folder of the module, or the path of one in a module that it requires.
    package: Package,
    /// Build tags.
    tags: &'static str,
    /// More for the linker.
    link: &'static str,
    /// What to tell people who wait.
    cost: &'static str,
}

/// Where a program's package is.
enum Package {
    Folder(&'static str),
    Required(&'static str),
}

impl Package {
    /// As `go build` takes it.
    fn argument(&self) -> String {
        match self {
            Self::Folder(folder) => format!("./{folder}"),
            Self::Required(path) => (*path).to_owned(),
        }
    }
}

pub(crate) const KUBENODE: Program = Program {
    name: "kubenode",
    module: "go",
    package: Package::Folder("kubenode"),
    tags: "",
    link: "",
    cost: "Kubernetes from its Go modules, about 8 minutes on 2 cores and 4 GB, once",
};
pub(crate) const COREDNS: Program = Program {
    name: "coredns",
    module: "go",
    package: Package::Folder("coredns"),
    tags: "",
    link: "",
    cost: "CoreDNS from its Go module, about half a minute after kubenode, once",
};
pub(crate) const HTTPBIN: Program = Program {
    name: "go-httpbin",
    module: "go-httpbin",
    package: Package::Folder("."),
    tags: "",
    link: "",
    cost: "go-httpbin from its Go module, some seconds, once",
};
pub(crate) const OLM_CHECK: Program = Program {
    name: "olm-check",
    module: "go-olm",
    package: Package::Folder("."),
    tags: "",
    link: "",
    cost: "OLM's validators from their Go modules, about a minute and a half on 2 cores, once",
};
pub(crate) const PROBED: Program = Program {
    name: "probed",
    module: "go-probed",
    package: Package::Folder("."),
    tags: "",
    link: "",
    cost: "probed with grpc-go from its Go module, some seconds, once",
};
pub(crate) const GRPC_ECHO: Program = Program {
    name: "grpc-echo",
    module: "go-grpc-echo",
    package: Package::Folder("."),
    tags: "",
    link: "",
    cost: "grpc-echo with grpc-go's xDS from its Go module, about half a minute, once",
};
/// The real one, with the discovery that a mesh needs and no other. Debian's package has none of Kubernetes.
pub(crate) const PROMETHEUS: Program = Program {
    name: "prometheus",
    module: "go-prometheus",
    package: Package::Required("github.com/prometheus/prometheus/cmd/prometheus"),
    tags: "remove_all_sd,enable_kubernetes_sd",
    link: "-X github.com/prometheus/common/version.Version=3.10.0",
    cost: "Prometheus from its Go module, about four minutes on 2 cores, once",
};

const FLAGS: [&str; 3] = ["build", "-mod=readonly", "-trimpath"];
const ENVIRONMENT: [(&str, &str); 4] =
    // A larger heap before each collection: a minute less for the whole.
    [("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off"), ("GOGC", "400")];

/// Builds `program`, or finds it in the cache.
pub(crate) fn build(cache: &Cache, program: &Program, progress: &dyn Progress) -> Result<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(program.module);
    let manifest = module.join("go.mod");
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    let link = kubernetes_version(&text).map_or_else(|| Ok(STRIP.to_owned()), |version| link_flags(&version))?;
    let link = format!("{link} {}", program.link).trim_end().to_owned();
    let mut key = Key::new()
        .text(&go_version(&module)?)
        .text(&FLAGS.join(" "))
        .text(format!("{link} {}", program.tags).trim_end())
        .content_of(&manifest)?
        .content_of(&module.join("go.sum"))?;
    if let Package::Folder(folder) = program.package {
        for source in sources(&module.join(folder))? {
            key = key.content_of(&source)?;
        }
    }
    cache.file(program.name, key, |to| {
        progress.note(&format!("{}: {}", program.name, program.cost));
        step(progress, &format!("build {}", program.name), || {
            let output = go(&module)
                .args(FLAGS)
                .args(["-tags", program.tags])
                .arg("-ldflags")
                .arg(&link)
                .arg("-o")
                .arg(to)
                .arg(program.package.argument())
                .output()
                .context("run `go build`")?;
            if !output.status.success() {
                bail!(
                    "go build {} in {}: {}",
                    program.package.argument(),
                    module.display(),
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
            Ok(())
        })
    })
}

/// The Go files of a package, in order.
fn sources(package: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(package).with_context(|| format!("read {}", package.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "go") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn go(module: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module).envs(ENVIRONMENT).env_remove("GOFLAGS").stdin(Stdio::null());
    command
}

fn go_version(module: &Path) -> Result<String> {
    let output = go(module)
        .args(["env", "GOVERSION"])
        .output()
        .context("run `go`: install Go 1.26 or newer (https://go.dev/dl) and put it on the PATH")?;
    if !output.status.success() {
        bail!("go env GOVERSION: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of Kubernetes that a `go.mod` requires, if it does.
fn kubernetes_version(manifest: &str) -> Option<String> {
    let mut words = manifest.lines().map(|line| line.trim().trim_start_matches("require ").split_whitespace());
    words
        .find_map(|mut words| (words.next() == Some("k8s.io/kubernetes")).then(|| words.next()).flatten())
        .map(ToOwned::to_owned)
}

/// Without symbols: they are a third of a binary.
const STRIP: &str = "-s -w";

/// Without these `/version` says `v0.0.0-master+$Format:%H$`, and clients that parse it stumble.
fn link_flags(version: &str) -> Result<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("e2e/go/go.mod: version {version:?} of k8s.io/kubernetes");
    };
    let component = "k8s.io/component-base/version";
    Ok(format!(
        "{STRIP} -X {component}.gitVersion={version} -X {component}.gitMajor={major} -X {component}.gitMinor={minor} \
         -X {component}.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion={version}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_requirement_not_from_a_replacement() -> Result<()> {
        for (case, manifest) in [
            ("block", "replace (\n\tk8s.io/api => k8s.io/api v0.36.4\n)\nrequire (\n\tk8s.io/kubernetes v1.36.4\n)\n"),
            ("single", "require k8s.io/kubernetes v1.36.4\n"),
        ] {
            assert_eq!(kubernetes_version(manifest).as_deref(), Some("v1.36.4"), "{case}");
        }
        assert!(link_flags("v1.36.4")?.contains("gitMinor=36 "));
        Ok(())
    }
}
