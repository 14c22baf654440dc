//! An authority's upload as a Bundle: what is loaded, what is refused and why, and that neither leaves anything half done.

mod audited;
mod bundles;
mod codes;
mod random;
mod restricted;
mod shown;
mod staged;
mod verification;
