//! When a certificate is to be renewed. Pure.

use std::time::{Duration, SystemTime};

/// A self-signed root is renewed in the last fifth of its life, as Istio does.
const ROOT_LAST_FRACTION: u32 = 5;
/// Our own server certificate is renewed at half of its life, as a proxy renews its own.
const SERVER_LAST_FRACTION: u32 = 2;

/// Whether a self-signed root that is valid in `validity` is due for renewal at `now`.
pub(crate) fn root_is_due(validity: (SystemTime, SystemTime), now: SystemTime) -> bool {
    now >= renew_at(validity, ROOT_LAST_FRACTION)
}

/// How long to wait before our own server certificate is renewed.
pub(crate) fn until_server_renewal(validity: (SystemTime, SystemTime), now: SystemTime) -> Duration {
    renew_at(validity, SERVER_LAST_FRACTION).duration_since(now).unwrap_or_default()
}

fn renew_at((not_before, not_after): (SystemTime, SystemTime), last_fraction: u32) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    not_after.checked_sub(life / last_fraction).unwrap_or(not_before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_root_is_renewed_in_the_last_fifth_of_its_life() {
        let day = Duration::from_hours(24);
        let validity = (UNIX_EPOCH, UNIX_EPOCH + 100 * day);
        for (name, now, due) in [
            ("new", UNIX_EPOCH, false),
            ("before", UNIX_EPOCH + 79 * day, false),
            ("at", UNIX_EPOCH + 80 * day, true),
            ("expired", UNIX_EPOCH + 200 * day, true),
        ] {
            assert_eq!(root_is_due(validity, now), due, "{name}");
        }
    }

    #[test]
    fn a_server_certificate_is_renewed_at_half_of_its_life() {
        let hour = Duration::from_hours(1);
        let validity = (UNIX_EPOCH, UNIX_EPOCH + 24 * hour);
        assert_eq!(until_server_renewal(validity, UNIX_EPOCH + 2 * hour), 10 * hour);
        assert_eq!(until_server_renewal(validity, UNIX_EPOCH + 13 * hour), Duration::ZERO);
    }
}
