//! `pilot-agent` of the proxy's image: `proxy sidecar|router`, `istio-iptables`, `request`, `wait`.

mod allocator;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use forestay_proxy::admin::LogLevel;
use forestay_proxy::{agent, redirect, run};
use http::Method;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use xds::node::ProxyType;

const USAGE: &str = "\
usage: pilot-agent <command>

  proxy sidecar|router [--domain D] [--proxyLogLevel L] [--log_output_level L]   runs the proxy
  istio-iptables ...                                                              sets up redirection in the pod
  request GET|POST <path> [--debug-port P]                                        asks the proxy's administration
  wait [--timeoutSeconds N] [--periodMillis N] [--url U]                          waits until the proxy is ready
  version                                                                         prints the version
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    if command == "istio-iptables" {
        return ExitCode::from(u8::try_from(redirect::main(arguments)).unwrap_or(1));
    }
    let rest = match arguments.map(OsString::into_string).collect::<Result<Vec<String>, _>>() {
        Ok(rest) => rest,
        Err(argument) => {
            eprintln!("pilot-agent: argument {} is no text", argument.display());
            return ExitCode::from(2);
        }
    };
    let outcome = match command.to_str().unwrap_or_default() {
        "proxy" => proxy(rest),
        "request" => request(rest),
        "wait" => wait(rest),
        "version" | "--version" => {
            println!("{}", names::VERSION);
            Ok(())
        }
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => {
            eprint!("pilot-agent: there is no command {other:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Flags as Istio's agent takes them: `--name value` or `--name=value`, between the words of the command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    words: Vec<String>,
    flags: Vec<(String, String)>,
}

impl Flags {
    fn read(arguments: Vec<String>) -> Self {
        let mut read = Self::default();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--") else {
                read.words.push(argument);
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (flag, arguments.next_if(|next| !next.starts_with("--")).unwrap_or_default()),
            };
            read.flags.push((name.to_owned(), value));
        }
        read
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, otherwise: u64) -> Result<u64> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(value) => value.parse().with_context(|| format!("--{name}: {value:?} is no number")),
        }
    }

    /// Names of flags that the command does not know.
    fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.flags.iter().map(|(name, _)| name.as_str()).filter(|name| !known.contains(name))
    }
}

/// Flags of `proxy` that mean something here, or that Istio's templates set and that need no warning.
const PROXY_FLAGS: [&str; 6] =
    ["domain", "proxyLogLevel", "proxyComponentLogLevel", "log_output_level", "log_as_json", "concurrency"];

fn proxy(arguments: Vec<String>) -> Result<()> {
    let flags = Flags::read(arguments);
    let proxy_type = match flags.words.first().map(String::as_str) {
        Some("sidecar") | None => ProxyType::Sidecar,
        Some("router") => ProxyType::Router,
        Some(other) => bail!("proxy {other:?}: say sidecar or router"),
    };
    let filter = filter(flags.get("proxyLogLevel"), flags.get("log_output_level"));
    let log_level = start_logging(&filter, flags.get("log_as_json").is_some_and(|value| value != "false"))?;
    for name in flags.unknown(&PROXY_FLAGS) {
        tracing::warn!(flag = name, "this flag is not known and changes nothing");
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another crypto provider is installed already"))?;
    run::proxy(proxy_type, flags.get("domain"), log_level, allocator::give_back)?;
    Ok(())
}

/// Istio's two levels: the proxy's own, and the agent's (`default:info,xds:debug`, of which the default counts).
fn filter(proxy: Option<&str>, agent: Option<&str>) -> String {
    let level = |name: &str| match name {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "error" | "critical" | "fatal" => "error",
        "off" | "none" => "off",
        _ => "warn",
    };
    let scopes = || agent.unwrap_or_default().split(',').filter(|scope| !scope.is_empty());
    let default = scopes().find_map(|scope| match scope.split_once(':') {
        Some(("default" | "all", level)) => Some(level),
        Some(_) => None,
        None => Some(scope),
    });
    let (proxy, agent) = (level(proxy.unwrap_or("warning")), level(default.unwrap_or("info")));
    let parts = ["agent", "xds", "admin", "run"].map(|module| format!("forestay_proxy::{module}={agent}"));
    format!("{proxy},{}", parts.join(","))
}

fn start_logging(filter: &str, json: bool) -> Result<LogLevel> {
    let filter = EnvFilter::try_new(filter).context("log levels")?;
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    // Standard output is the access log's.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    if json {
        registry.with(lines.json()).try_init()?;
    } else {
        registry.with(lines).try_init()?;
    }
    Ok(Arc::new(move |level: &str| {
        let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn request(arguments: Vec<String>) -> Result<()> {
    let flags = Flags::read(arguments);
    let [method, path] = flags.words.as_slice() else { bail!("say request GET|POST <path>") };
    let method: Method = method.to_uppercase().parse().with_context(|| format!("{method:?} is no method"))?;
    let port = u16::try_from(flags.number("debug-port", names::ports::PROXY_ADMIN.into())?).context("--debug-port")?;
    let body = runtime()?.block_on(agent::ask::request(port, method, path))?;
    print!("{}", String::from_utf8_lossy(&body));
    Ok(())
}

fn wait(arguments: Vec<String>) -> Result<()> {
    let flags = Flags::read(arguments);
    let period = Duration::from_millis(flags.number("periodMillis", 500)?.max(1));
    let limit = Duration::from_secs(flags.number("timeoutSeconds", 60)?);
    let port = match flags.get("url") {
        None => names::ports::HEALTH,
        Some(url) => {
            let uri: http::Uri = url.parse().with_context(|| format!("--url: {url:?} is no URL"))?;
            uri.port_u16().with_context(|| format!("--url: {url:?} names no port"))?
        }
    };
    runtime()?.block_on(agent::ask::wait(port, period, limit))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Flags, PROXY_FLAGS, filter};

    #[test]
    fn flags_as_istios_template_writes_them() {
        let line = "sidecar --domain default.svc.cluster.local --proxyLogLevel=warning \
                    --proxyComponentLogLevel=misc:error --log_output_level=default:info --outlierLogPath=/x --flag";
        let flags = Flags::read(line.split_whitespace().map(str::to_owned).collect());
        assert_eq!(flags.words, ["sidecar"]);
        assert_eq!(flags.get("domain"), Some("default.svc.cluster.local"));
        assert_eq!(flags.get("proxyLogLevel"), Some("warning"));
        assert_eq!(flags.unknown(&PROXY_FLAGS).collect::<Vec<_>>(), ["outlierLogPath", "flag"]);
    }

    #[test]
    fn istios_levels() {
        for (proxy, agent, expected) in [
            (None, None, "warn,forestay_proxy::agent=info"),
            (Some("debug"), Some("default:warn,xds:debug"), "debug,forestay_proxy::agent=warn"),
            (Some("critical"), Some("error"), "error,forestay_proxy::agent=error"),
        ] {
            let filter = filter(proxy, agent);
            assert!(filter.starts_with(expected), "{filter}");
        }
    }
}
