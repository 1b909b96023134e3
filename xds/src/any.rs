//! `google.protobuf.Any`: a message beside the name of its type.

use prost::{Message, Name};

use crate::canonical;
use crate::types::google::Any;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The message is of another type than its reader expects.
    #[error("expected a message of type {expected}, got {found}")]
    Type {
        /// The type that the reader can read.
        expected: String,
        /// The type that the message says it has.
        found: String,
    },
    /// The bytes are not a message of that type.
    #[error("message of type {type_url} does not decode: {source}")]
    Decode {
        /// The type that the message says it has.
        type_url: String,
        /// What protobuf says.
        source: prost::DecodeError,
    },
    /// There is no message.
    #[error("no message, where one of type {0} is required")]
    Missing(String),
}

/// Packs a message. Equal messages give equal bytes (see [`canonical`]).
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: canonical::encode(message) }
}

/// Unpacks a message of the one type that the reader understands.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, UnpackError> {
    let expected = M::type_url();
    // The prefix is free in protobuf; what follows the last slash is the type.
    if type_name(&any.type_url) != type_name(&expected) {
        return Err(UnpackError::Type { expected, found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice()).map_err(|source| UnpackError::Decode { type_url: any.type_url.clone(), source })
}

/// Unpacks a message that must be there.
pub fn unpack_required<M: Message + Name + Default>(any: Option<&Any>) -> Result<M, UnpackError> {
    any.map_or_else(|| Err(UnpackError::Missing(M::type_url())), unpack)
}

/// The name of the type in a type URL, without its prefix.
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::{UnpackError, pack, unpack};
    use crate::types::{core, google, route};

    #[test]
    fn a_packed_message_reads_back() {
        let host = route::VirtualHost { name: "a".into(), domains: vec!["b".into()], ..Default::default() };
        let any = pack(&host);
        assert_eq!(any.type_url, crate::type_url::VIRTUAL_HOST);
        assert_eq!(unpack::<route::VirtualHost>(&any).expect("of its own type"), host);
    }

    #[test]
    fn another_type_and_broken_bytes_are_errors_that_name_the_type() {
        let any = pack(&core::Metadata::default());
        let error = unpack::<route::VirtualHost>(&any).expect_err("metadata is no virtual host");
        assert!(error.to_string().contains("envoy.config.core.v3.Metadata"), "{error}");

        let broken = google::Any { type_url: crate::type_url::VIRTUAL_HOST.into(), value: vec![0x0a, 0xff] };
        assert!(matches!(unpack::<route::VirtualHost>(&broken), Err(UnpackError::Decode { .. })));
    }
}
