//! PID 1 of a box: sets up the cage, starts the parts and keeps them running, reaps orphans, takes commands.
//!
//! Everything else in the box is its descendant in a PID namespace of its own, so its death is the box's: the kernel
//! ends every part, shim, pod and mount at once.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::control::{self, PartState, PartStatus, Reply, Request, Status};
use super::forwarder::Forwarder;
use super::layout::Layout;
use super::part::{self, Binaries, Part};
use super::{api, cage, load_balancer};

/// How long an ended part stays away.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// What the harness tells the init, in `box.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
    pub(crate) binaries: Binaries,
    /// Whether the box dies with the harness: the init's standard input is a pipe that closes then.
    pub(crate) tethered: bool,
}

impl Charge {
    pub(crate) const FILE: &str = "box.json";

    pub(crate) fn read(path: &Path) -> Result<Charge> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))
    }

    pub(crate) fn layout(&self) -> Result<Layout> {
        Layout::below(&self.root, &self.name)
    }
}

/// The init's main function; `arguments` is what follows [`INIT_WORD`](super::INIT_WORD). Any program that starts boxes
/// calls this from its `main` before it does anything else: it builds its own runtime.
pub fn init_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match try_main(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    if std::process::id() != 1 {
        bail!("is for the first process of a box only, which `forestay-e2e` and `cargo xtask demo` start themselves");
    }
    let path = arguments.into_iter().next().context("say where the box's box.json lies")?;
    let charge = Charge::read(Path::new(&path))?;
    let layout = charge.layout()?;
    cage::enter(&layout)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("build a runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, supervise(charge, layout))
}

type Call = (Request, Option<std::os::fd::OwnedFd>, oneshot::Sender<Reply>);

async fn supervise(charge: Charge, layout: Layout) -> Result<()> {
    let mut child_ended = signal(SignalKind::child()).context("listen for SIGCHLD")?;
    let mut calls = serve_calls(&layout)?;
    let mut tether = tether(charge.tethered);
    let mut supervisor = Supervisor::new(layout.clone(), charge.binaries);
    for part in Part::ALL.into_iter().filter(|part| !part.waits_for_api_server()) {
        supervisor.start(part)?;
    }
    let mut api_ready = tokio::task::spawn_local(async move {
        let client = api::client_inside(&layout).await?;
        api::wait_ready(&client).await;
        anyhow::Ok(client)
    });
    let mut waiting_for_api = true;
    loop {
        let restart = supervisor.next_restart();
        tokio::select! {
            _ = child_ended.recv() => supervisor.reap(),
            Some((request, listener, reply)) = calls.recv() => {
                // The caller may have given up meanwhile.
                let _ = reply.send(supervisor.obey(request, listener).map_err(|error| format!("{error:#}")));
            }
            client = &mut api_ready, if waiting_for_api => {
                waiting_for_api = false;
                let client = client.context("wait for the API server")??;
                supervisor.api_server_is_ready()?;
                tokio::task::spawn_local(load_balancer::run(client));
            }
            () = tokio::time::sleep_until(restart.unwrap_or_else(Instant::now)), if restart.is_some() => {
                supervisor.restart_due()?;
            }
            _ = &mut tether => return Ok(()),
        }
    }
}

/// Completes when the harness is gone.
fn tether(tethered: bool) -> oneshot::Receiver<()> {
    let (gone, wait) = oneshot::channel();
    if tethered {
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            drop(gone);
        });
    } else {
        // Never sent, never dropped.
        std::mem::forget(gone);
    }
    wait
}

/// Takes calls on the control socket, one after the other, on a thread of its own.
fn serve_calls(layout: &Layout) -> Result<mpsc::Receiver<Call>> {
    let socket = layout.init_socket();
    let listener = UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    let (calls, receiver) = mpsc::channel::<Call>(1);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let served = stream.map_err(anyhow::Error::from).and_then(|stream| {
                control::serve_one(stream, |request, listener| {
                    let (reply, answer) = oneshot::channel();
                    let sent = calls.blocking_send((request, listener, reply));
                    sent.map_err(|_| "is going down".to_owned())?;
                    answer.blocking_recv().unwrap_or_else(|_| Err("is going down".to_owned()))
                })
            });
            if let Err(error) = served {
                eprintln!("init: control socket: {error:#}");
            }
        }
    });
    Ok(receiver)
}

#[derive(Debug, Clone, Copy)]
enum State {
    Held,
    Running(Pid),
    Paused(Pid),
    /// Killed on request and not reaped yet.
    Ending(Pid),
    Restarting(Instant),
    Stopped,
}

struct Supervised {
    part: Part,
    state: State,
    starts: u32,
    last_exit: Option<String>,
}

struct Supervisor {
    layout: Layout,
    binaries: Binaries,
    parts: Vec<Supervised>,
    forwarder: Forwarder,
    api_server_seen_ready: bool,
}

impl Supervisor {
    fn new(layout: Layout, binaries: Binaries) -> Supervisor {
        let parts = Part::ALL
            .into_iter()
            .map(|part| Supervised { part, state: State::Held, starts: 0, last_exit: None })
            .collect();
        Supervisor { layout, binaries, parts, forwarder: Forwarder::default(), api_server_seen_ready: false }
    }

    fn supervised(&mut self, part: Part) -> Result<&mut Supervised> {
        self.parts.iter_mut().find(|supervised| supervised.part == part).context("no such part")
    }

    /// A part that cannot even be started is an error of the box, not of the part.
    fn start(&mut self, part: Part) -> Result<()> {
        let pid = spawn(part, &self.layout, &self.binaries)?;
        let supervised = self.supervised(part)?;
        supervised.state = State::Running(pid);
        supervised.starts += 1;
        Ok(())
    }

    fn api_server_is_ready(&mut self) -> Result<()> {
        self.api_server_seen_ready = true;
        for part in Part::ALL {
            if matches!(self.supervised(part)?.state, State::Held) {
                self.start(part)?;
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        // Pods' shims and whatever they leave behind re-parent to us too: wait for anybody.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, code) => (pid, format!("exit code {code}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("signal {signal}")),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            for supervised in &mut self.parts {
                match supervised.state {
                    State::Running(own) | State::Paused(own) if own == pid => {
                        eprintln!("init: {} ended: {how}", supervised.part);
                        supervised.state = State::Restarting(Instant::now() + RESTART_DELAY);
                        supervised.last_exit = Some(how.clone());
                    }
                    State::Ending(own) if own == pid => {
                        supervised.state = State::Stopped;
                        supervised.last_exit = Some(how.clone());
                    }
                    _ => {}
                }
            }
        }
    }

    fn next_restart(&self) -> Option<Instant> {
        self.parts
            .iter()
            .filter_map(|supervised| match supervised.state {
                State::Restarting(when) => Some(when),
                _ => None,
            })
            .min()
    }

    fn restart_due(&mut self) -> Result<()> {
        let now = Instant::now();
        for part in Part::ALL {
            if matches!(self.supervised(part)?.state, State::Restarting(when) if when <= now) {
                self.start(part)?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, request: Request, listener: Option<std::os::fd::OwnedFd>) -> Result<Status> {
        // A part may have ended since the last SIGCHLD was handled.
        self.reap();
        match request {
            Request::Status => {}
            Request::Kill(part) => {
                let pid = self.pid(part)?;
                kill(pid, Signal::SIGKILL).with_context(|| format!("kill {part}"))?;
            }
            Request::Stop(part) => match self.supervised(part)?.state {
                State::Running(pid) | State::Paused(pid) => {
                    self.supervised(part)?.state = State::Ending(pid);
                    kill(pid, Signal::SIGKILL).with_context(|| format!("kill {part}"))?;
                }
                State::Ending(_) => {}
                State::Held | State::Restarting(_) | State::Stopped => self.supervised(part)?.state = State::Stopped,
            },
            Request::Start(part) => match self.supervised(part)?.state {
                State::Stopped | State::Restarting(_) | State::Held => self.start(part)?,
                State::Ending(_) => bail!("{part} has not ended yet"),
                State::Running(_) | State::Paused(_) => bail!("{part} is running already"),
            },
            Request::Pause(part) => {
                let pid = self.pid(part)?;
                kill(pid, Signal::SIGSTOP).with_context(|| format!("pause {part}"))?;
                self.supervised(part)?.state = State::Paused(pid);
            }
            Request::Resume(part) => {
                let pid = self.pid(part)?;
                kill(pid, Signal::SIGCONT).with_context(|| format!("resume {part}"))?;
                self.supervised(part)?.state = State::Running(pid);
            }
            Request::Forward(forward) => match listener {
                _ if self.forwarder.retarget(forward) => {}
                Some(listener) => {
                    let listener = std::net::TcpListener::from(listener);
                    listener.set_nonblocking(true).context("prepare the listener")?;
                    let listener = tokio::net::TcpListener::from_std(listener).context("take the listener")?;
                    self.forwarder.serve(forward, listener);
                }
                None => bail!("nothing listens on {} for this box", forward.listen),
            },
        }
        Ok(self.status())
    }

    fn pid(&mut self, part: Part) -> Result<Pid> {
        match self.supervised(part)?.state {
            State::Running(pid) | State::Paused(pid) => Ok(pid),
            _ => bail!("{part} is not running"),
        }
    }

    fn status(&self) -> Status {
        let parts = self.parts.iter().map(|supervised| PartStatus {
            part: supervised.part,
            state: match supervised.state {
                State::Held => PartState::Held,
                State::Running(_) | State::Ending(_) => PartState::Running,
                State::Paused(_) => PartState::Paused,
                State::Restarting(_) => PartState::Restarting,
                State::Stopped => PartState::Stopped,
            },
            starts: supervised.starts,
            last_exit: supervised.last_exit.clone(),
        });
        Status {
            api_server_seen_ready: self.api_server_seen_ready,
            parts: parts.collect(),
            forwards: self.forwarder.list(),
        }
    }
}

#[allow(clippy::zombie_processes)] // the supervisor reaps everybody
fn spawn(part: Part, layout: &Layout, binaries: &Binaries) -> Result<Pid> {
    let (program, arguments) = part::command(part, layout, binaries);
    let path = layout.log(part.name());
    let log =
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    let child = Command::new(&program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", layout.folder())
        .current_dir(layout.folder())
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {part} ({})", program.display()))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).context("process id")?))
}
