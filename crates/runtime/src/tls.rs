//! The one TLS provider of the process.

/// Makes aws-lc-rs the provider of every TLS client here. Call it first in `main`; calling it again is harmless.
pub fn install() {
    // An error means that a provider is installed already, which is what was asked for.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
