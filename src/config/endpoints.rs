//! Where the services are: the command line, the environment, the profile, in this order
//! (docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html).

use super::{ConfigError, variable};
use crate::auth::identity::{Identity, Profile};
use crate::aws::{Endpoints, Urls, home_region, partition_of_region};
use crate::cli::AccessArgs;
use crate::home;

/// Finds the addresses, and checks that they can be such.
pub(super) fn endpoints(
    args: &AccessArgs,
    profile: &Profile<'_>,
    identity: &Identity,
) -> Result<Endpoints, ConfigError> {
    let is_on = |name: &str, key: &str| {
        variable(name)
            .or_else(|| profile.key(key))
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    };
    let is_ignored = is_on(
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "ignore_configured_endpoint_urls",
    );
    let url = |given: &Option<String>, service: &str| {
        if given.is_some() || is_ignored {
            return Ok(given.clone());
        }
        let own = variable(&format!("AWS_ENDPOINT_URL_{}", service.to_uppercase()));
        if let Some(url) = own.or_else(|| variable("AWS_ENDPOINT_URL")) {
            return Ok(Some(url));
        }
        let configured = profile.service(service, "endpoint_url")?;
        Ok::<_, ConfigError>(configured.or_else(|| profile.key("endpoint_url")))
    };
    let urls = Urls {
        s3: url(&args.endpoint_url, "s3")?,
        sts: url(&args.sts_endpoint_url, "sts")?,
        iam: url(&None, "iam")?,
        sso: url(&None, "sso")?,
        sso_oidc: url(&None, "sso_oidc")?,
        imds: imds(profile),
    };
    let all = [
        &urls.s3,
        &urls.sts,
        &urls.iam,
        &urls.sso,
        &urls.sso_oidc,
        &urls.imds,
    ];
    for url in all.into_iter().flatten() {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(ConfigError(format!(
                "{:?} is no endpoint: it starts with https:// (or http:// on this machine)",
                crate::words::tame(url)
            )));
        }
    }
    let ca_bundle = match &args.ca_bundle {
        // In a unit's environment nobody has expanded it.
        Some(path) => Some(path.to_str().map_or_else(|| path.clone(), home::expanded)),
        None => profile.key("ca_bundle").map(|path| home::expanded(&path)),
    };
    if let Some(path) = &ca_bundle
        && let Err(error) = std::fs::File::open(path)
    {
        return Err(ConfigError(format!(
            "the certificates in {} cannot be read: {error}",
            path.display()
        )));
    }
    let fips = is_on("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
    let dual_stack = is_on("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
    let said = args
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.key("region"));
    // An ARN tells China and GovCloud apart from the rest of the world.
    let partition = identity.partition();
    let region = match (said, partition) {
        (Some(region), Some(partition))
            if urls.sts.is_none() && partition_of_region(&region) != partition =>
        {
            return Err(ConfigError(format!(
                "the region {region} is in the partition {}, but the profile's ARNs are of \
                 {partition}: use a region of that, such as --region {}",
                partition_of_region(&region),
                home_region(partition)
            )));
        }
        (Some(region), _) => region,
        (None, partition) => home_region(partition.unwrap_or("aws")).to_owned(),
    };
    let style = profile.nested("s3", "addressing_style");
    // The host name of a store on one machine has no room for a bucket.
    let path_style = args.force_path_style
        || style.as_deref() == Some("path")
        || urls.s3.as_deref().is_some_and(is_bare_address);
    Ok(Endpoints {
        path_style,
        region,
        urls,
        fips,
        dual_stack,
        ca_bundle,
    })
}

/// Where the metadata service of an instance is, if it was said:
/// docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html. `None` is AWS's own address of
/// IPv4.
fn imds(profile: &Profile<'_>) -> Option<String> {
    let said = |name: &str, key: &str| variable(name).or_else(|| profile.key(key));
    said(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "ec2_metadata_service_endpoint",
    )
    .or_else(|| {
        let mode = said(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
            "ec2_metadata_service_endpoint_mode",
        )?;
        let is_six = mode.eq_ignore_ascii_case("ipv6");
        is_six.then(|| "http://[fd00:ec2::254]".to_owned())
    })
}

/// Whether a URL's host is an address or `localhost`, before which no bucket can be put.
fn is_bare_address(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_room_for_a_bucket() {
        assert!(is_bare_address("http://127.0.0.1:9000"));
        assert!(is_bare_address("http://localhost"));
        assert!(!is_bare_address("https://s3.example.com"));
    }
}
