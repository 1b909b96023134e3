//! The operator killed by SIGKILL whenever one more of its objects has appeared, and again whenever one has gone: what comes
//! out is what an operator that lives makes. Watches say when, no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};

use super::objects::{self, Key};
use super::process::Operator;
use super::{MESH, installed, ready, uninstalled};
use crate::scenarios::mesh::{SOON, STARTED};

/// An object came or went.
enum Change {
    Came(Key),
    Went(Key),
}

/// Changes of all objects of ours, from now on.
fn changes(client: &Client) -> stream::BoxStream<'static, Change> {
    let all = objects::kinds().into_iter().map(|kind| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let config = watcher::Config::default().labels(&objects::selector());
        let (mut known, mut listed) = (BTreeSet::new(), BTreeSet::new());
        watcher(api, config)
            .default_backoff()
            .flat_map(move |event| {
                let changes = match event {
                    Ok(Event::Apply(object)) => {
                        known.insert(Key::of(&kind, &object));
                        vec![Change::Came(Key::of(&kind, &object))]
                    }
                    Ok(Event::InitApply(object)) => {
                        listed.insert(Key::of(&kind, &object));
                        vec![Change::Came(Key::of(&kind, &object))]
                    }
                    Ok(Event::Delete(object)) => {
                        known.remove(&Key::of(&kind, &object));
                        vec![Change::Went(Key::of(&kind, &object))]
                    }
                    // No event says what has gone before a watch began anew.
                    Ok(Event::InitDone) => {
                        let before = std::mem::replace(&mut known, std::mem::take(&mut listed));
                        before.difference(&known).cloned().map(Change::Went).collect()
                    }
                    Ok(Event::Init) | Err(_) => Vec::new(),
                };
                stream::iter(changes)
            })
            .boxed()
    });
    stream::select_all(all).boxed()
}

/// Kills at each stage of an installation, then of a deletion.
pub(crate) async fn at_every_stage(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    let client = kube.client()?;
    let undisturbed = objects::snapshot(&client).await?;
    uninstalled(kube, "default").await?;
    let kept: BTreeSet<Key> = objects::all(&client).await?.into_keys().collect();
    ensure!(kept.is_empty(), "a deletion left {kept:?}");

    let mut operator = Operator::instead_of_the_deployment(kube).await?;
    let (mut changes, mut there, mut kills) = (changes(&client), BTreeSet::new(), 0);
    operator.start()?;
    kube.apply(MESH).await?;
    while there.len() < undisturbed.len() {
        let change = tokio::time::timeout(STARTED, changes.next()).await.with_context(|| {
            let missing: Vec<String> =
                undisturbed.keys().filter(|key| !there.contains(*key)).map(ToString::to_string).collect();
            format!("killed {kills} times and still missing: {}", missing.join(", "))
        })?;
        match change.context("the watches have ended")? {
            Change::Came(key) if !there.contains(&key) => {
                there.insert(key);
                operator.kill_and_start().await?;
                kills += 1;
            }
            Change::Came(_) => {}
            Change::Went(key) => _ = there.remove(&key),
        }
    }
    ready(kube, "default").await?;
    let disturbed = objects::snapshot(&client).await?;
    for (key, value) in &undisturbed {
        let now = disturbed.get(key).with_context(|| format!("{key} is missing"))?;
        ensure!(now == value, "{key} is\n{now:#}\nwhere an operator that lives makes\n{value:#}");
    }
    ensure!(
        disturbed.len() == undisturbed.len(),
        "there are {} objects instead of {}",
        disturbed.len(),
        undisturbed.len()
    );
    println!("    installation: {} objects, killed {kills} times", disturbed.len());

    kills = 0;
    kube.kubectl_ok(&["delete", "mi", "default", "--wait=false"]).await?;
    while !there.is_empty() {
        let change = tokio::time::timeout(STARTED, changes.next())
            .await
            .with_context(|| format!("killed {kills} times and still there: {there:?}"))?;
        if let Change::Went(key) = change.context("the watches have ended")?
            && there.remove(&key)
        {
            operator.kill_and_start().await?;
            kills += 1;
        }
    }
    kube.wait_for("default", "mi/default", "delete", Duration::from_mins(2)).await?;
    kube.eventually("nothing left", SOON, || async {
        let left: Vec<Key> = objects::all(&client).await?.into_keys().collect();
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
    .await?;
    println!("    deletion: killed {kills} times");
    operator.give_back().await
}
