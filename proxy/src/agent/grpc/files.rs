//! Files for the application: each changes at once, so that nobody reads half of one.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::bootstrap::{CHAIN, KEY, ROOTS};

/// Everybody in the pod who has the volume may read: the application runs as a user that we do not know.
const MODE: u32 = 0o644;
/// How many bytes stand in a line of PEM (RFC 7468).
const LINE: usize = 48;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; is the volume mounted, and may the agent write to it?")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Puts `content` into the place of a file.
pub fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let put = || {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(content)?;
        std::fs::rename(&new, path)
    };
    put().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Writes a certificate's chain and key, and the roots that peers are verified by.
///
/// Between chain and key a reader may find two that do not fit. gRPC's file watcher then keeps what it had.
pub fn write_certificate(
    folder: &Path,
    chain: &[CertificateDer<'_>],
    key: &[u8],
    roots: &[CertificateDer<'_>],
) -> Result<(), WriteError> {
    let certificates =
        |all: &[CertificateDer<'_>]| -> String { all.iter().map(|der| pem("CERTIFICATE", der).to_string()).collect() };
    write(&folder.join(ROOTS), certificates(roots).as_bytes())?;
    write(&folder.join(CHAIN), certificates(chain).as_bytes())?;
    write(&folder.join(KEY), pem("PRIVATE KEY", key).as_bytes())
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = der.chunks(LINE).count();
    // As long as it will be: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(lines * (LINE / 3 * 4 + 1) + 2 * (label.len() + 17)));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(LINE) {
        base64::engine::general_purpose::STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    use super::{CHAIN, KEY, ROOTS, write, write_certificate};

    #[test]
    fn a_certificate_reads_back_and_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
            let certificate = |key| {
                let params = CertificateParams::new(vec!["a".to_owned()]).expect("a name");
                params.self_signed(key).expect("signed").der().clone()
            };
            let (leaf, root) = (certificate(&key), certificate(&other));
            write_certificate(
                folder.path(),
                &[leaf.clone(), root.clone()],
                &key.serialize_der(),
                std::slice::from_ref(&root),
            )
            .expect("written");
            let read = |name: &str| std::fs::read(folder.path().join(name)).expect("a file");
            let certificates = |name: &str| -> Vec<_> {
                CertificateDer::pem_slice_iter(&read(name)).map(|der| der.expect("a certificate")).collect()
            };
            assert_eq!(certificates(CHAIN), [leaf, root.clone()]);
            assert_eq!(certificates(ROOTS), [root]);
            let found = PrivateKeyDer::from_pem_slice(&read(KEY)).expect("a key");
            assert_eq!(found.secret_der(), key.serialize_der());
        }
        let names: std::collections::BTreeSet<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let mode = std::fs::metadata(folder.path().join(KEY)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "the application is another user");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = write(std::path::Path::new("/nowhere/file"), b"").expect_err("no such folder");
        assert!(error.to_string().starts_with("cannot write /nowhere/file: No such file"), "{error}");
    }
}
