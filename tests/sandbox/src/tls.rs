//! TLS: a certificate for the names of this machine, from an authority that nobody else has.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The names of the certificate.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What a listener needs for TLS, and its clients for trust.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The certificate of the authority.
    pub(crate) ca_pem: String,
}

impl Tls {
    /// Makes new keys, which a seed has no part in.
    pub(crate) fn new() -> io::Result<Self> {
        let (ca_key, key) = (generate()?, generate()?);
        let mut ca = CertificateParams::default();
        ca.distinguished_name = named("s3mfa-sandbox authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = ca.self_signed(&ca_key).map_err(io::Error::other)?.pem();

        let names = NAMES.map(str::to_owned);
        let mut server = CertificateParams::new(names).map_err(io::Error::other)?;
        server.distinguished_name = named(NAMES[0]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(ca, ca_key);
        let certificate = server.signed_by(&key, &issuer).map_err(io::Error::other)?;

        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem,
        })
    }
}

fn generate() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}
