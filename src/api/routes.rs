//! The table of contents of the admin socket: which path is answered by what.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::json;

use super::admin_socket::{Answer, Routes};
use super::findings::finding_json;
use super::now::Now;
use super::state::{Inside, Known};
use super::{
    backup, checks, configuration, health, leases, loaders, looks, machine_list, machines, quirks,
    status, walks,
};
use crate::control::quirks::QuirkKeeper;
use crate::serve::handle::{Handle, Refusal};
use crate::serve::overview::Overview;

pub fn routes(handle: Handle, inside: Inside) -> Routes {
    let Inside { known: Known { journal, quirks }, database, overrides } = inside;
    let (status, configuration, checked, listed) =
        (handle.clone(), handle.clone(), handle.clone(), handle.clone());
    let all = Arc::clone(&journal);
    let one_at_a_time = Mutex::new(());
    // Whoever asks for what happened asks for what clients have met before: an answer may have left
    // while its event is on its way.
    let settled = {
        let handle = handle.clone();
        move || handle.overview().inspect(|overview| overview.settle())
    };
    let (settled_all, settled_one) = (settled.clone(), settled.clone());
    let fixed = move || {
        settled().map(|overview| overview.generation().snapshot.quirks.clone()).unwrap_or_default()
    };
    let (limiting, limits) = (quirks.clone(), fixed.clone());
    let counted = quirks.clone();
    let known = |quirks: &Option<Arc<QuirkKeeper>>| {
        quirks.as_ref().map(|quirks| quirks.list()).unwrap_or_default()
    };
    let found = looks::routes(walks::routes(Routes::default(), &handle), &handle);
    quirks::routes(leases::routes(found, &handle), quirks, fixed)
        .get("/v1/status", move |_| {
            of(&status, |overview| {
                let mut body = status::status(overview);
                body["quirks"] = quirks::counted(&known(&counted));
                body["health"] = health::judge(&body);
                Answer::ok(body)
            })
        })
        .get("/v1/configuration", move |_| of(&configuration, configuration::configuration))
        .get(machine_list::PATH, move |_| machine_list::of_server(&all, settled_all().as_deref()))
        .get("/v1/machines/", move |who| {
            let now = Now::of(settled_one().as_deref());
            machines::of_journal(&journal, &now, || quirks::all(known(&limiting), &limits()), who)
        })
        .get("/v1/check", move |_| {
            of(&checked, |overview| Answer::ok(checks::in_server(&overrides, overview)))
        })
        .get("/v1/loaders", move |_| {
            of(&listed, |overview| Answer::ok(loaders::listing(Some(overview.images.root()))))
        })
        .download("/v1/backup", move || {
            let _copying = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            backup::backup(database.as_deref())
        })
        .post("/v1/reload", move |_| match handle.reload() {
            Ok(done) => Answer::ok(json!({
                "generation": done.generation,
                "after_restart": done.after_restart,
                "findings": done.remarks.iter().map(finding_json).collect::<Vec<_>>(),
            })),
            Err(Refusal { why, findings }) => {
                let title = "not reloaded, the old configuration stays";
                let mut answer = Answer::problem(StatusCode::CONFLICT, title, &why);
                answer.body["findings"] = findings.iter().map(finding_json).collect();
                answer
            }
        })
}

/// What runs now; nobody can say while the server starts or stops.
fn of(handle: &Handle, answer: impl FnOnce(&Overview) -> Answer) -> Answer {
    match handle.overview() {
        Some(overview) => answer(&overview),
        None => Answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping",
            "ask again in a moment",
        ),
    }
}
