//! The programs of Istio's Bookinfo sample, as one small binary in four roles.
//!
//! In comes `bookinfo <role> <port>`; out go the pages and the JSON that people know from the originals:
//!
//! * [`productpage`]: the page, the sign-in, and the API in front of the other three
//! * [`details`], [`reviews`], [`ratings`]: one document each; reviews asks ratings for the stars
//! * [`call`]: how one asks another, with the headers that carry a trace and a user along
//! * [`serve`]: the server, and its end: it goes on answering for some seconds after SIGTERM
//! * [`settings`]: the environment variables of the originals

mod call;
mod details;
mod productpage;
mod ratings;
mod reply;
mod reviews;
mod serve;
mod settings;

use std::{rc::Rc, str::FromStr as _};

use anyhow::{Context as _, Result, bail};

use crate::{productpage::Productpage, ratings::Ratings, reviews::Reviews, settings::Settings};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(role), Some(port)) = (arguments.next(), arguments.next()) else {
        bail!("usage: bookinfo productpage|details|reviews|ratings PORT");
    };
    let port = u16::from_str(&port).with_context(|| format!("{port:?} is not a port"))?;
    let settings = Settings::read(|name| std::env::var(name).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        match role.as_str() {
            "productpage" => {
                let page = Rc::new(Productpage::new(settings));
                serve::run(port, move |request| productpage::answer(page.clone(), request)).await
            }
            "details" => serve::run(port, |request| async move { details::answer(&request) }).await,
            "reviews" => {
                let reviews = Rc::new(Reviews::new(settings));
                serve::run(port, move |request| reviews::answer(reviews.clone(), request)).await
            }
            "ratings" => {
                let ratings = Rc::new(Ratings::new(&settings));
                serve::run(port, move |request| ratings::answer(ratings.clone(), request)).await
            }
            other => bail!("{other:?} is not a role; there are productpage, details, reviews and ratings"),
        }
    })
}
