//! Which requests go around the proxy: `NO_PROXY`, with ports.
//!
//! The SDK's client reads `HTTPS_PROXY` and its siblings, and hosts and networks in `NO_PROXY`, but no
//! `HOST:PORT` (hyper-util 0.1.21, `client/proxy/matcher.rs`), which Python's `proxy_bypass_environment`
//! knows, and the AWS CLI with it: a store on this machine beside a proxy for the rest.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::config_bag::ConfigBag;

/// Makes the client that the environment's proxies ask for, out of clients with one setting each.
pub(crate) fn client(with: impl Fn(ProxyConfig) -> SharedHttpClient) -> SharedHttpClient {
    let proxied = with(ProxyConfig::from_env());
    let exceptions = Exceptions::of_environment();
    match exceptions.0.is_empty() {
        true => proxied,
        false => SharedHttpClient::new(Fork {
            direct: with(ProxyConfig::disabled()),
            proxied,
            exceptions,
        }),
    }
}

/// The destinations that `NO_PROXY` names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exceptions(Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    /// In lower case, without brackets, and with everything below it if it is a name.
    host: String,
    /// Any if `None`.
    port: Option<u16>,
}

impl Exceptions {
    fn of_environment() -> Self {
        let lists = ["NO_PROXY", "no_proxy"].map(|name| std::env::var(name).unwrap_or_default());
        Self::parse(&lists.join(","))
    }

    fn parse(list: &str) -> Self {
        let entries = list.split(',').map(str::trim);
        let exceptions = entries.map(|entry| {
            let entry = entry
                .strip_prefix('*')
                .unwrap_or(entry)
                .trim_start_matches('.');
            let (host, port) = host_and_port(entry);
            Exception {
                host: host.to_lowercase(),
                port,
            }
        });
        // `*` alone is the SDK's to know.
        Self(exceptions.filter(|entry| !entry.host.is_empty()).collect())
    }

    /// Whether a request goes there by itself.
    fn have(&self, url: &str) -> bool {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_and_port(authority);
        let host = host.to_lowercase();
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        self.0.iter().any(|exception| {
            let below = host.strip_suffix(&exception.host);
            let is_below = below.is_some_and(|below| below.ends_with('.')) && !is_address;
            (host == exception.host || is_below) && exception.port.is_none_or(|own| own == port)
        })
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT` or an address of IPv6.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    if let Some((address, behind)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = behind.strip_prefix(':').and_then(|port| port.parse().ok());
        return (address, port);
    }
    match text.split_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

/// A client of two, of which each request takes one.
#[derive(Debug)]
struct Fork {
    direct: SharedHttpClient,
    proxied: SharedHttpClient,
    exceptions: Exceptions,
}

#[derive(Debug)]
struct ForkConnector {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
    exceptions: Exceptions,
}

impl HttpConnector for ForkConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.exceptions.have(request.uri()) {
            true => self.direct.call(request),
            false => self.proxied.call(request),
        }
    }
}

impl HttpClient for Fork {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ForkConnector {
            direct: self.direct.http_connector(settings, components),
            proxied: self.proxied.http_connector(settings, components),
            exceptions: self.exceptions.clone(),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.direct
            .validate_base_client_config(components, config)?;
        self.proxied.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.direct.validate_final_config(components, config)?;
        self.proxied.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.proxied.connector_metadata()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_hold_for_hosts_and_ports() {
        let rows = [
            ("127.0.0.1:9000", "http://127.0.0.1:9000/b", true),
            ("127.0.0.1:9000", "http://127.0.0.1:9001/b", false),
            ("127.0.0.1", "http://127.0.0.1:9001/b", true),
            ("0.0.1", "http://127.0.0.1/", false),
            (
                "s3.example.com:443",
                "https://s3.example.com/b?x=http://y",
                true,
            ),
            ("s3.example.com:443", "http://s3.example.com/", false),
            ("example.com:9000", "http://b.S3.example.com:9000/k", true),
            (".example.com:9000", "http://example.com:9000", true),
            ("*.example.com", "http://s3.example.com:9000", true),
            ("example.com", "http://notexample.com", false),
            ("x, y:80 ,[::1]:9000", "http://[::1]:9000/", true),
            ("[::1]:9000", "http://[::1]:9001/", false),
            ("::1", "http://[::1]:9001/", true),
            ("[::1]", "http://[::1]:9001/", true),
            ("", "http://127.0.0.1/", false),
            ("y:http", "http://y/", false),
        ];
        for (list, url, expected) in rows {
            assert_eq!(Exceptions::parse(list).have(url), expected, "{list} {url}");
        }
    }
}
