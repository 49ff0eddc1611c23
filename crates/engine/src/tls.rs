//! TLS of the connections: which certificates are believed, who we are, which versions of HTTP are offered.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::EngineError;
use crate::settings::{HttpVersion, Reuse, Settings, Tls};

/// The certificate authorities of this machine.
fn native_certificates() -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    let reason = found.errors.first().map_or_else(String::new, |e| format!(" ({e})"));
    Err(EngineError::Tls(format!(
        "this machine has no CA certificates{reason}, so no server's certificate could be verified: install the package \
         `ca-certificates`, name a file with `--ca-file`, or use `--insecure`"
    )))
}

/// Those of the user's file, of which each must be usable; else this machine's, of which some may be older than the library takes.
fn trusted(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Trusted, EngineError> {
    let mut roots = RootCertStore::empty();
    let certificates = if let Some(file) = &tls.ca_file {
        let certificates = read_certificates(Path::new(file))?;
        for cert in &certificates {
            roots
                .add(cert.clone())
                .map_err(|e| EngineError::Tls(format!("`{file}`: {e}")))?;
        }
        certificates
    } else {
        let certificates = native_certificates()?;
        roots.add_parsable_certificates(certificates.iter().cloned());
        certificates
    };
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| EngineError::Tls(e.to_string()))?;
    Ok(Trusted { chains, certificates })
}

/// TLS of a client that believes the certificates it is told to, and shows its own if it has one.
pub fn trusting(tls: &Tls) -> Result<rustls::ClientConfig, EngineError> {
    let bad = |what: String| EngineError::Tls(what);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.insecure {
        Arc::new(AnyCertificate(provider))
    } else {
        Arc::new(trusted(tls, provider)?)
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(format!("`{key}`: {e}")))?;
            builder
                .with_client_auth_cert(read_certificates(Path::new(cert))?, key)
                .map_err(|e| bad(e.to_string()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// How the settings' connections speak TLS.
pub(crate) fn client_config(settings: &Settings) -> Result<Arc<rustls::ClientConfig>, EngineError> {
    let mut config = trusting(&settings.tls)?;
    // With HTTP/2 both are offered, so that a server without it says so instead of breaking off.
    let offered: &[&str] = match settings.http_version {
        HttpVersion::Http11 => &["http/1.1"],
        HttpVersion::Http2 => &["h2", "http/1.1"],
    };
    config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    if settings.connection == Reuse::Never {
        // Who wants a connection per request wants its whole handshake, not a resumed one.
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let bad = |what: String| EngineError::Tls(format!("`{}`: {what}", file.display()));
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|e| bad(e.to_string()))?
        .collect();
    let certs = certs.map_err(|e| bad(e.to_string()))?;
    if certs.is_empty() {
        Err(bad("it holds no certificate".to_owned()))
    } else {
        Ok(certs)
    }
}

/// Certificates by their chains; and those that are trusted by themselves.
///
/// `openssl req -x509` marks what it makes as an authority's, and webpki takes no authority's certificate for a server's. Who names exactly
/// this certificate as trusted means this server, as curl and Python understand it. Name, dates and signatures are checked all the same.
#[derive(Debug)]
struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

/// Webpki says so when the dates are right and before it looks for an issuer: nothing else is wrong with a certificate that is trusted.
fn is_authority_as_server(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other))
        if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)))
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self
            .chains
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verdict.as_ref().is_err_and(is_authority_as_server) && self.certificates.contains(end_entity) {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// `--insecure`: whoever answers is believed; the traffic is encrypted, but nobody knows for whom.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/tests/data");

    fn certificate(name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(format!("{DATA}/{name}.pem")).expect("a certificate")
    }

    fn verdict(ca_file: &str, shown: &str, name: &'static str, years: u64) -> String {
        let tls = Tls {
            insecure: false,
            ca_file: Some(format!("{DATA}/{ca_file}.pem")),
            client_cert_file: None,
            client_key_file: None,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now = SystemTime::now() + Duration::from_secs(years * 31_557_600);
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"));
        let name = ServerName::try_from(name).expect("a name");
        let verdict = trusted(&tls, provider).expect("certificates").verify_server_cert(
            &certificate(shown),
            &[],
            &name,
            &[],
            now,
        );
        verdict.map_or_else(|e| e.to_string(), |_| "ok".to_owned())
    }

    /// What `openssl req -x509` makes: a server's certificate that says it is an authority's.
    #[test]
    fn a_certificate_in_the_ca_file_is_trusted_though_it_is_marked_as_an_authority() {
        for (ca_file, shown, name, years, expected) in [
            ("own", "own", "localhost", 0, "ok"),
            ("own", "own", "127.0.0.1", 0, "ok"),
            ("own", "own", "example.com", 0, "not valid for"),
            ("own", "own", "127.0.0.2", 0, "not valid for"),
            ("own", "own", "localhost", 200, "expired"),
            ("ca", "server", "localhost", 0, "ok"),
            ("ca", "server", "example.com", 0, "not valid for"),
            ("ca", "server", "localhost", 200, "expired"),
            ("ca", "own", "localhost", 0, "CaUsedAsEndEntity"),
            ("own", "server", "localhost", 0, "UnknownIssuer"),
            // An authority is trusted, but it is no server of that name.
            ("ca", "ca", "localhost", 0, "not valid for"),
        ] {
            let found = verdict(ca_file, shown, name, years);
            assert!(found.contains(expected), "{ca_file} {shown} {name} {years}: {found}");
        }
    }
}
