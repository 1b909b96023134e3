//! The decisions: functions from configuration and what is known of a connection or a request to what happens to it.
//! Chance comes in as a seed, so that each decision can be played again.

pub mod balance;
pub mod chain;
pub mod cluster;
pub mod fault;
pub mod host;
pub mod matching;
pub mod normalize;
pub mod retry;
pub mod rewrite;
pub mod router;
