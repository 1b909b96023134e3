//! An API server's refusal in its own words.

/// The message alone: the whole answer says everything twice, and a condition has to be read by a person.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    #[test]
    fn a_refusal_is_said_once() {
        let status = Status::failure("exceeded quota: small", "Forbidden").with_code(403);
        assert_eq!(super::words(&kube::Error::Api(status.boxed())), "exceeded quota: small");
    }
}
