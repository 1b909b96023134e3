//! Choices, made by a list of numbers. Proptest makes the list and shortens it where a property fails; with the list at
//! its end every choice is the plainest one.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// How much is tried: few enough for every run, more by `FORESTAY_FUZZ_CASES`.
const CASES: u32 = 256;
/// The same cases every time, so that a failure is everybody's; others by `FORESTAY_FUZZ_SEED`.
const SEED: u64 = 1337;

/// How often a property is tried, and from which seed.
pub(crate) fn config() -> Config {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = number("FORESTAY_FUZZ_CASES").and_then(|cases| u32::try_from(cases).ok());
    Config {
        cases: cases.unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(number("FORESTAY_FUZZ_SEED").unwrap_or(SEED)),
        // A failure is mended with a named row in `regressions.rs`, which says more than a file of numbers.
        failure_persistence: None,
        ..Config::default()
    }
}

/// Lists to choose by.
pub(crate) fn choices() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 0..600)
}

/// Makes choices.
pub(crate) struct Entropy<'a>(std::slice::Iter<'a, u32>);

impl<'a> Entropy<'a> {
    pub(crate) fn new(choices: &'a [u32]) -> Self {
        Self(choices.iter())
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.0.next().copied().unwrap_or_default()
    }

    /// One of `0..end`; 0 when `end` is.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = self.number() as usize;
        number.checked_rem(end).unwrap_or_default()
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u32) -> bool {
        self.number() % times == times - 1
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.below(all.len())]
    }
}
