//! A control plane without a Kubernetes: `forestay istiod` on a folder of YAML.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::peers::{self, Programs};
use crate::process::Program;
use crate::signer;

/// A control plane that runs, with its certificate authority.
pub(crate) struct Mesh {
    pub(crate) control_plane: Program,
    /// Where it serves xDS over TLS, on loopback.
    pub(crate) tls: u16,
    /// Where it serves xDS in plaintext, on loopback.
    pub(crate) plaintext: u16,
    /// The certificate authority.
    pub(crate) signer: SocketAddr,
    folder: TempDir,
}

impl Mesh {
    /// Starts one on these objects; `ports` is the first of four that nothing else uses.
    pub(crate) fn start(programs: &Programs, objects: &str, ports: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (configuration, authority) = (folder.path().join("configuration"), folder.path().join("authority"));
        std::fs::create_dir(&configuration)?;
        std::fs::create_dir(&authority)?;
        std::fs::write(configuration.join("mesh.yaml"), objects)?;
        std::fs::write(folder.path().join("token"), "nobody reviews this")?;
        let signer = signer::start(&authority)?;
        let [tls, plaintext, monitoring, readiness] = [ports, ports + 1, ports + 2, ports + 3];
        let mut command = Command::new(&programs.forestay);
        command.arg("istiod").arg("--config-dir").arg(&configuration).arg("--ca-dir").arg(&authority);
        for (flag, port) in [
            ("--xds-tls-address", tls),
            ("--xds-plaintext-address", plaintext),
            ("--monitoring-address", monitoring),
            ("--readiness-address", readiness),
        ] {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        let mut control_plane = Program::start(command, &folder.path().join("istiod.log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], readiness));
        let ready = control_plane.wait_until("readiness", || Ok(peers::is_ready(address, "/ready")));
        let mesh = Self { control_plane, tls, plaintext, signer, folder };
        ready.with_context(|| mesh.log("istiod.log"))?;
        Ok(mesh)
    }

    /// The file with the mesh's root certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("authority").join(signer::ROOT)
    }

    /// The file with a proxy's token.
    pub(crate) fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// A file for a program that belongs to this mesh.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The end of what a program of this mesh said.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("{name} ends with:\n{}", end.join("\n"))
    }
}
