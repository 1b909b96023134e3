//! Translation as a whole: objects as people write them in, resources as proxies get them out.

// The name that every other crate knows it by.
extern crate forestay_translate as translate;

mod bookinfo;
mod cluster;
mod conversion;
mod determinism;
mod golden;
mod rules;
mod unsupported;
mod vectors;
