//! How Istio's messages become Rust types: protobuf's JSON rules, written once.
//!
//! A field that is absent has its zero value; a zero value is not written. So a plain type (`String`, `u32`, `Vec`,
//! an enum) is a field whose zero means "not set"; `Option<Message>` is a message that may be absent; and
//! `Option<u32>`, `Option<bool>`, `Option<f64>` are Istio's wrapper types, where zero and absent differ (the schema
//! marks those `nullable`, as Istio's does).

/// True for a value that protobuf's JSON leaves out.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Defines a message (a struct) or an enumeration of Istio's API with the serde and schema rules of this module.
macro_rules! message {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $ty:ty),* $(,)?
    }) => {
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, rename_all = "camelCase")]
        $(#[$meta])*
        $vis struct $name {
            $(
                #[serde(skip_serializing_if = "crate::message::is_zero")]
                $(#[$field_meta])*
                $field_vis $field: $ty,
            )*
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident),* $(,)? }) => {
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        $(#[$meta])*
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)*
        }
    };
}
pub(crate) use message;
