//! The environment variables of the originals.

/// What the environment says. Names and defaults are those of upstream's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `host:port` of details (`DETAILS_HOSTNAME`, `DETAILS_SERVICE_PORT`, `SERVICES_DOMAIN`).
    pub(crate) details: String,
    /// `host:port` of reviews.
    pub(crate) reviews: String,
    /// `host:port` of ratings.
    pub(crate) ratings: String,
    /// `ENABLE_RATINGS`: whether reviews asks for stars.
    pub(crate) ratings_enabled: bool,
    /// `STAR_COLOR`.
    pub(crate) star_color: String,
    /// `FLOOD_FACTOR`: how many further requests productpage sends to reviews for each page.
    pub(crate) flood_factor: usize,
    /// `SERVICE_VERSION`: ratings has a faulty and a slow version.
    pub(crate) version: String,
    /// `HOSTNAME`, the pod's name.
    pub(crate) pod: String,
    /// `CLUSTER_NAME`; the original prints Java's `null` when there is none.
    pub(crate) cluster: String,
}

impl Settings {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let domain = variable("SERVICES_DOMAIN").map(|domain| format!(".{domain}")).unwrap_or_default();
        // Kubernetes itself sets `RATINGS_SERVICE_PORT` and its like to the port of the Service of that name.
        let address = |service: &str| {
            let upper = service.to_uppercase();
            let host = variable(&format!("{upper}_HOSTNAME")).unwrap_or_else(|| service.to_owned());
            let port = variable(&format!("{upper}_SERVICE_PORT")).unwrap_or_else(|| "9080".to_owned());
            format!("{host}{domain}:{port}")
        };
        Self {
            details: address("details"),
            reviews: address("reviews"),
            ratings: address("ratings"),
            ratings_enabled: variable("ENABLE_RATINGS").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            star_color: variable("STAR_COLOR").unwrap_or_else(|| "black".to_owned()),
            flood_factor: variable("FLOOD_FACTOR").and_then(|value| value.parse().ok()).unwrap_or_default(),
            version: variable("SERVICE_VERSION").unwrap_or_default(),
            pod: variable("HOSTNAME").unwrap_or_else(|| "null".to_owned()),
            cluster: variable("CLUSTER_NAME").unwrap_or_else(|| "null".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn defaults_are_the_services_of_bookinfo() {
        let settings = Settings::read(|_| None);
        assert_eq!(settings.details, "details:9080");
        assert_eq!(settings.reviews, "reviews:9080");
        assert_eq!(settings.ratings, "ratings:9080");
        assert!(!settings.ratings_enabled);
        assert_eq!((settings.star_color.as_str(), settings.cluster.as_str()), ("black", "null"));
    }

    #[test]
    fn hosts_ports_and_domain_can_be_set() {
        let settings = Settings::read(|name| match name {
            "SERVICES_DOMAIN" => Some("shop.svc".to_owned()),
            "RATINGS_HOSTNAME" => Some("stars".to_owned()),
            "RATINGS_SERVICE_PORT" => Some("80".to_owned()),
            "ENABLE_RATINGS" => Some("TRUE".to_owned()),
            _ => None,
        });
        assert_eq!(settings.ratings, "stars.shop.svc:80");
        assert_eq!(settings.reviews, "reviews.shop.svc:9080");
        assert!(settings.ratings_enabled);
    }
}
