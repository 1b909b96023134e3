//! How a verb ends: the exit codes of `istioctl`, so that scripts written for it go on working.

use std::process::ExitCode;

/// What an exit code means (`istioctl/cmd/sysexits.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// It failed.
    Failed = 1,
    /// The command line cannot be meant.
    Usage = 64,
    /// A file is not what it should be: no YAML, no settings.
    Data = 65,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A verb that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// Nothing when everything has been said already.
    error: Option<anyhow::Error>,
}

impl Failure {
    /// Failed with an error that is still to be told.
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: Some(error.into()) }
    }

    /// Failed, and the user has been told why.
    pub(crate) fn told(code: Code) -> Self {
        Self { code, error: None }
    }

    /// Tells the error, if that is still to be done.
    pub(crate) fn end(self) -> ExitCode {
        if let Some(error) = self.error {
            eprintln!("forestay: {error:#}");
        }
        self.code.into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Code::Failed, error)
    }
}
