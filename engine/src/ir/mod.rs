//! What xDS means to us.
//!
//! Everything here is checked when it is built: a value that exists can be acted on. Names are `Arc<str>`, shared by
//! whoever refers to them.

pub mod access_log;
pub mod cluster;
pub mod endpoint;
pub mod fault;
pub mod header;
pub mod listener;
pub mod retry;
pub mod route;
pub mod text;
pub mod tls;

use std::sync::Arc;

/// Which rule of the user a piece of configuration came from, for logs, `/explain` and the details of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Istio's form: `/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews`.
    pub config: Option<Arc<str>>,
    /// Ours: `VirtualService default/reviews`.
    pub rule: Option<Arc<str>>,
    /// The generation of the object.
    pub generation: Option<i64>,
    /// The field inside the object: `spec.http[0]`.
    pub field: Option<Arc<str>>,
}

/// A share of requests: `numerator` out of `denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// How many of [`Fraction::denominator`].
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Every request.
    pub const ALWAYS: Self = Self { numerator: 100, denominator: 100 };

    /// Whether a uniformly random `seed` falls into this share.
    pub fn contains(self, seed: u64) -> bool {
        self.denominator != 0 && seed % u64::from(self.denominator) < u64::from(self.numerator)
    }
}
