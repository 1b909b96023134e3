//! What VirtualServices do to the page, counted over requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::Load;
use super::{SOON, Visitor, apply_sample, delete_sample, gateway};
use forestay_e2e::kube_box::KubeBox;

/// Everything to v1: no stars, ever.
pub(crate) async fn all_v1(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/destination-rule-all.yaml").await?;
    apply_sample(kube, "bookinfo/networking/virtual-service-all-v1.yaml").await?;
    let visitor = Visitor::anonymous(kube).await?;
    settled(kube, &visitor, "every page from reviews v1", &["v1"]).await?;
    let counted = count(&visitor, 20).await?;
    ensure!(counted.keys().copied().eq(["v1"]), "with everything on v1 the pages came from {counted:?}");
    ensure!(visitor.page().await?.stars() == "none", "v1 has no stars");
    Ok(())
}

/// jason sees v2, everybody else v1.
pub(crate) async fn jason_sees_v2(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-reviews-test-v2.yaml").await?;
    let (jason, other) = (Visitor::signed_in(kube, "jason").await?, Visitor::anonymous(kube).await?);
    settled(kube, &jason, "jason's page from reviews v2", &["v2"]).await?;
    ensure!(count(&jason, 10).await?.keys().copied().eq(["v2"]), "jason sees more than v2");
    ensure!(count(&other, 10).await?.keys().copied().eq(["v1"]), "others see more than v1");
    ensure!(jason.page().await?.stars() == "black", "v2 has black stars");
    Ok(())
}

/// Half of the pages from v1, half from v3.
pub(crate) async fn half_v3(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-reviews-50-v3.yaml").await?;
    let visitor = Visitor::anonymous(kube).await?;
    kube.eventually("a page from reviews v3", SOON, || async {
        let page = visitor.page().await?;
        ensure!(page.reviews() == Some("v3"), "served by {:?}", page.reviews());
        Ok(())
    })
    .await?;
    let counted = count(&visitor, 120).await?;
    let v3 = counted.get("v3").copied().unwrap_or_default();
    ensure!(counted.keys().copied().eq(["v1", "v3"]), "with 50/50 the pages came from {counted:?}");
    // A fair coin leaves 36..=84 of 120 once in some ten thousand runs.
    ensure!((36..=84).contains(&v3), "of 120 pages {v3} came from v3, not about half: {counted:?}");
    Ok(())
}

/// jason sees v2, everybody else v3.
pub(crate) async fn jason_v2_others_v3(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-reviews-jason-v2-v3.yaml").await?;
    let (jason, other) = (Visitor::signed_in(kube, "jason").await?, Visitor::anonymous(kube).await?);
    settled(kube, &jason, "jason's page from reviews v2", &["v2"]).await?;
    settled(kube, &other, "others' page from reviews v3", &["v3"]).await?;
    ensure!(count(&jason, 10).await?.keys().copied().eq(["v2"]), "jason sees more than v2");
    ensure!(count(&other, 10).await?.keys().copied().eq(["v3"]), "others see more than v3");
    ensure!(other.page().await?.stars() == "red", "v3 has red stars");
    Ok(())
}

/// Ratings answer jason after 7 s: reviews give up first, and the page says so.
pub(crate) async fn delay(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-all-v1.yaml").await?;
    apply_sample(kube, "bookinfo/networking/virtual-service-reviews-test-v2.yaml").await?;
    apply_sample(kube, "bookinfo/networking/virtual-service-ratings-test-delay.yaml").await?;
    let (jason, other) = (Visitor::signed_in(kube, "jason").await?, Visitor::anonymous(kube).await?);
    kube.eventually("jason's page without reviews", SOON, || async {
        let asked = Instant::now();
        let page = jason.page().await?;
        let apology = "Sorry, product reviews are currently unavailable for this book.";
        ensure!(page.0.contains(apology), "no apology; stars: {}", page.stars());
        let took = asked.elapsed();
        ensure!((5..=12).contains(&took.as_secs()), "two tries of 3 s took {took:?}");
        Ok(())
    })
    .await?;
    let asked = Instant::now();
    ensure!(other.page().await?.reviews() == Some("v1"), "others see no reviews");
    // Less than the two tries of 3 s.
    ensure!(asked.elapsed() < Duration::from_secs(5), "others waited too: {:?}", asked.elapsed());
    Ok(())
}

/// Ratings answer jason 500: the page has reviews without stars.
pub(crate) async fn abort(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-ratings-test-abort.yaml").await?;
    let jason = Visitor::signed_in(kube, "jason").await?;
    kube.eventually("jason's page without ratings", SOON, || async {
        let page = jason.page().await?;
        ensure!(page.0.contains("Ratings service is currently unavailable"), "stars: {}", page.stars());
        Ok(())
    })
    .await
}

/// A rule that changes under load takes effect without a failed request.
pub(crate) async fn change_under_load(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/virtual-service-all-v1.yaml").await?;
    let visitor = Visitor::anonymous(kube).await?;
    settled(kube, &visitor, "every page from reviews v1", &["v1"]).await?;
    let load = Load::start(kube, gateway(kube).await?, "/productpage", 4, Duration::from_millis(20));
    for (file, version) in [("reviews-v3", "v3"), ("all-v1", "v1"), ("reviews-v3", "v3")] {
        let begun = Instant::now();
        let path = format!("bookinfo/networking/virtual-service-{file}.yaml");
        let (applied, live) = tokio::try_join!(
            async { apply_sample(kube, &path).await.map(|()| begun.elapsed()) },
            first_page_from(&visitor, version, begun + SOON)
        )?;
        println!(
            "    a page from {version} {:.0} ms after kubectl apply began, which took {:.0} ms",
            (live - begun).as_secs_f64() * 1e3,
            applied.as_secs_f64() * 1e3
        );
        settled(kube, &visitor, "the changed rule", &[version]).await?;
    }
    load.stop().await.all_good(50)?;
    delete_sample(kube, "bookinfo/networking/virtual-service-all-v1.yaml").await
}

/// Asks again and again until a page comes from `version`; returns when it did.
async fn first_page_from(visitor: &Visitor<'_>, version: &str, deadline: Instant) -> Result<Instant> {
    loop {
        if visitor.page().await?.reviews() == Some(version) {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < deadline, "no page from {version}");
    }
}

/// Waits until ten pages in a row come from one of `versions`: one alone could be chance.
async fn settled(kube: &KubeBox, visitor: &Visitor<'_>, what: &str, versions: &[&str]) -> Result<()> {
    kube.eventually(what, SOON, || async {
        for _ in 0..10 {
            let page = visitor.page().await?;
            let served = page.reviews();
            ensure!(served.is_some_and(|version| versions.contains(&version)), "served by {served:?}");
        }
        Ok(())
    })
    .await
}

/// Asks for the page that often and counts which version of reviews served it.
async fn count(visitor: &Visitor<'_>, times: usize) -> Result<BTreeMap<&'static str, usize>> {
    let mut counted = BTreeMap::new();
    for _ in 0..times {
        *counted.entry(visitor.page().await?.reviews().unwrap_or("none")).or_default() += 1;
    }
    Ok(counted)
}
