//! The version of a resource: a hash of its content, so that what did not change is not sent.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The first eight bytes of the content's SHA-256; written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// The version of this content.
    pub fn of(content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        Self(digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_version_is_the_head_of_the_contents_sha256() {
        let version = Version::of(b"abc"); // FIPS 180-4, appendix B.1
        assert_eq!(version.to_string(), "ba7816bf8f01cfea");
        assert_eq!(version.to_string().parse(), Ok(version));
    }
}
