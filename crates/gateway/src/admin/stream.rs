//! Long requests: a line of JSON for each step, and a last one with the outcome.
//!
//! The work runs inside the answer's body, so a client that goes away ends it.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use hubless_mirror::{MirrorError, PROGRESS_QUEUE, Progress, ProgressSink};
use serde::Serialize;
use tokio::sync::mpsc;

use super::message;

type Outcome = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// Answers with the progress of `work` and its outcome.
pub(super) fn run<T, F>(work: impl FnOnce(ProgressSink) -> F) -> Response
where
    T: Serialize,
    F: Future<Output = Result<T, MirrorError>> + Send + 'static,
{
    let (sink, progress) = mpsc::channel(PROGRESS_QUEUE);
    let outcome = AssertUnwindSafe(work(sink)).catch_unwind().map(|ended| {
        let panicked = |_| Err(MirrorError::Internal("it panicked; the log tells more".into()));
        last_line(ended.unwrap_or_else(panicked))
    });
    let mut answer = Response::new(Body::from_stream(lines(progress, Box::pin(outcome))));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    answer
}

enum Step {
    Working(mpsc::Receiver<Progress>, Outcome),
    /// The work ended with this line; progress sent before may still wait.
    Ended(mpsc::Receiver<Progress>, Bytes),
    Over,
}

fn lines(
    progress: mpsc::Receiver<Progress>,
    outcome: Outcome,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Step::Working(progress, outcome), |step| async {
        let (line, step) = next_line(step).await?;
        Some((Ok(line), step))
    })
}

async fn next_line(mut step: Step) -> Option<(Bytes, Step)> {
    loop {
        step = match step {
            Step::Working(mut progress, mut outcome) => {
                tokio::select! {
                    biased;
                    Some(event) = progress.recv() => return Some((line(&event), Step::Working(progress, outcome))),
                    last = outcome.as_mut() => Step::Ended(progress, last),
                }
            }
            Step::Ended(mut progress, last) => match progress.try_recv() {
                Ok(event) => return Some((line(&event), Step::Ended(progress, last))),
                Err(_) => return Some((last, Step::Over)),
            },
            Step::Over => return None,
        };
    }
}

fn last_line<T: Serialize>(ended: Result<T, MirrorError>) -> Bytes {
    match ended {
        Ok(result) => line(&serde_json::json!({ "event": "done", "result": result })),
        Err(error) => line(&serde_json::json!({
            "event": "error",
            "error": message(&error),
            "hint": error.hint(),
            "kind": error.kind(),
        })),
    }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a line could not be written as JSON");
        Vec::new()
    });
    bytes.push(b'\n');
    bytes.into()
}
