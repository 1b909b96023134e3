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

pub use xds::provenance::Provenance;

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
