//! Who calls: bearer tokens verified, registered clients looked up, and the keys that this program holds itself.
//!
//! - [`Tokens::new`] with [`Issuer`]s (their [`VerifyingKey`]s from PEM, JWK or JWKS text), then
//!   [`Tokens::authenticate`] for a request: the `Authorization` header, a [`Directory`], and the time.
//!   [`Tokens::verify`] is the part that needs no directory.
//! - [`AuthFault`] says 401 ([`TokenFault`]), 403 or 503; all texts are fit for the caller.
//! - [`Claims`] documents what is read from a token.
//! - [`sandbox`] issues the sandbox's tokens; [`sandbox::is_sandbox_issuer`] tells it from a real issuer.
//! - [`checkpoint_key`] signs and verifies the audit's checkpoints.
//! - [`notification_key`] signs notifications and publishes the key that checks them.
//! - [`Seal`] keeps what is handed out to be given back, such as cursors.
//!
//! The system's clock is never asked: the time is an argument everywhere.

mod caller;
pub mod checkpoint_key;
mod claims;
mod crypto;
mod key_file;
mod keys;
pub mod notification_key;
mod registered;
pub mod sandbox;
mod seal;
mod token;

#[cfg(test)]
mod tests;

pub use caller::{AuthFault, Directory, DirectoryFault};
pub use claims::{Claims, UserClaims};
pub use keys::{Issuer, KeyFault, VerifyingKey};
pub use registered::authenticate;
pub use seal::Seal;
pub use token::{LONGEST_TOKEN, TokenFault, Tokens};
