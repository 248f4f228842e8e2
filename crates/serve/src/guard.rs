//! What every request passes: keys, names of this machine, how many are at work, panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::refusal::{Kind, Refusal};

/// Paths that need no key: they tell nothing of models and texts.
const OPEN: [&str; 3] = ["/", "/health", "/ping"];

/// Lets a request through or refuses it, and makes an answer of a panic.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&app, &request) {
        Err(refusal) => refusal.into_response(),
        // Those that only read take no place among those that work.
        Ok(()) if request.method() != Method::POST => run(request, next).await,
        Ok(()) => match app.requests.try_acquire() {
            Ok(_place) => run(request, next).await,
            Err(_) => {
                let most = app.options.max_requests;
                let sentence = format!("{most} requests are at work: try again later");
                Refusal::overloaded(sentence, 1).into_response()
            }
        },
    };
    if let Some(kind) = response.extensions().get::<Kind>() {
        app.metrics.refused(kind.name());
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn run(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        Refusal::new(Kind::Backend, "the request made the program fail").into_response()
    })
}

fn admit(app: &App, request: &Request) -> Result<(), Refusal> {
    if app.options.checks_host() && !is_local(request) {
        return Err(Refusal::new(
            Kind::Host,
            "without a key, requests have to come by a name of this machine (localhost, 127.0.0.1 or [::1]): give the server \
             --api-key-file, or --no-auth if anybody may ask",
        ));
    }
    if app.options.keys.is_empty() || OPEN.contains(&request.uri().path()) {
        return Ok(());
    }
    if bears_key(&app.options.keys, request.headers()) {
        return Ok(());
    }
    Err(Refusal::new(Kind::Key, "a key is needed, in the header `Authorization: Bearer KEY`"))
}

/// Whether the request bears one of the keys. All are compared, in a time that hangs on lengths alone.
fn bears_key(keys: &[String], headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else { return false };
    let Some((scheme, given)) = given.split_at_checked(7) else { return false };
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return false;
    }
    let same = |key: &String| key.as_bytes().ct_eq(given).unwrap_u8();
    keys.iter().fold(0, |found, key| found | same(key)) == 1
}

/// Whether the request came by a name of this machine.
fn is_local(request: &Request) -> bool {
    let by_header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map_or(by_header, |authority| Some(authority.as_str()));
    let Some(host) = host else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use tokio::runtime::Builder;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::metrics::Metrics;
    use crate::options::Options;
    use crate::queue::Queue;

    /// A panic of a route is one client's answer, and the next one's request is answered.
    #[test]
    fn a_panic_is_an_answer() {
        let app = Arc::new(App {
            options: Options { no_auth: true, ..Options::new(Vec::new()) },
            models: Arc::default(),
            queue: Queue::new(1),
            metrics: Arc::new(Metrics::new().unwrap()),
            ready: Arc::default(),
            requests: Semaphore::new(1),
        });
        async fn panics() -> &'static str {
            panic!("the test says so")
        }
        let router = Router::new()
            .route("/panics", get(panics).post(panics))
            .route("/works", get(async || "works").post(async || "works"))
            .layer(from_fn_with_state(app.clone(), guard));
        let service = TowerToHyperService::new(router);
        let runtime = Builder::new_current_thread().build().unwrap();
        for method in [Method::GET, Method::POST, Method::POST] {
            for (path, status) in [("/panics", 500), ("/works", 200)] {
                let request = Request::builder().uri(path).method(&method);
                let request = request.body(Body::empty()).unwrap();
                let answer = runtime.block_on(service.call(request)).unwrap();
                assert_eq!(answer.status(), status, "{method} {path}");
                let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert_eq!(body.contains("the request made the program fail"), status == 500);
                assert!(!body.contains("the test says so"), "{body}");
            }
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        let keys = ["right".to_owned(), "other".to_owned()];
        let bears = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            bears_key(&keys, &headers)
        };
        assert!(bears("Bearer right") && bears("bearer other"));
        for wrong in [
            "",
            "right",
            "Bearer",
            "Bearer ",
            "Bearer righ",
            "Bearer right ",
            "Basic right",
            "Bearer  right",
        ] {
            assert!(!bears(wrong), "{wrong}");
        }
        assert!(!bears_key(&keys, &HeaderMap::new()));
    }

    #[test]
    fn names_of_this_machine() {
        let local = |host: &str| {
            is_local(&Request::builder().header(HOST, host).body(Body::empty()).unwrap())
        };
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:9", "[::1]"]
        {
            assert!(local(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "10.0.0.1", "127.0.0.1.nip.io"]
        {
            assert!(!local(host), "{host}");
        }
        assert!(!is_local(&Request::new(Body::empty())));
    }
}
