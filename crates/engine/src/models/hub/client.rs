//! Requests to the hub. Redirects are followed by hand, so that the token goes to the hub alone, and nothing that an
//! answer says is used before it is checked.

use std::io::Read;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{Method, Request, Response, Uri};
use ureq::{Agent, Body};

use super::{HubModel, HubSettings, is_commit};

/// Redirects that are followed in a row.
const MOST_REDIRECTS: usize = 10;
/// Times that a busy hub is asked.
const MOST_TRIES: usize = 4;
/// The longest wait that a busy hub is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The most bytes that the list of a model's files may have.
const MOST_BYTES_OF_LIST: u64 = 32 << 20;
/// How long the hub may be silent.
pub(super) const SILENCE: Duration =
    if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(60) };

const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// Asks a hub about one model. Its errors say what went wrong and what to do.
pub(super) struct Client<'a> {
    model: &'a HubModel,
    settings: &'a HubSettings,
    origin: Origin,
    agent: Agent,
}

/// A commit and the names of its files.
pub(super) struct Listing {
    /// 40 hexadecimal digits.
    pub commit: String,
    pub files: Vec<String>,
}

/// What the hub says of a file.
pub(super) struct Description {
    /// What tells its content from others', fit to be a file's name.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Description {
    /// The SHA-256 of the content, where the hub knows it: that of large files.
    pub fn sha256(&self) -> Option<&str> {
        let hex = self.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        (hex && self.etag.len() == 64).then_some(&*self.etag)
    }
}

/// The content of a file, or the rest of it.
pub(super) struct Content {
    /// Where in the file it starts.
    pub start: u64,
    pub reader: Box<dyn Read>,
}

/// What the token belongs to: where a browser would draw the line.
#[derive(PartialEq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// `None` unless the address is one of HTTP or HTTPS, without a user's name.
    fn of(url: &Uri) -> Option<Self> {
        let https = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority()?;
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host, port })
    }
}

impl<'a> Client<'a> {
    pub fn new(model: &'a HubModel, settings: &'a HubSettings) -> Result<Self, String> {
        let endpoint = &settings.endpoint;
        let url = endpoint.parse::<Uri>().ok().filter(|url| url.query().is_none());
        let origin = url.and_then(|url| Origin::of(&url)).ok_or_else(|| {
            format!("HF_ENDPOINT is {endpoint:?}, and should be as https://huggingface.co")
        })?;
        let config = Agent::config_builder()
            .user_agent(concat!("distil-gpu/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(SILENCE))
            .timeout_connect(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            // Sizes are those of files, and nothing is unpacked that grows.
            .accept_encoding("identity");
        Ok(Self { model, settings, origin, agent: config.build().into() })
    }

    /// What a branch, tag or commit is.
    pub fn list(&self, revision: &str) -> Result<Listing, String> {
        #[derive(Deserialize)]
        struct File {
            rfilename: String,
        }
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            siblings: Vec<File>,
        }
        let address =
            format!("api/models/{}/revision/{}", self.model.id, revision.replace('/', "%2F"));
        let response = self.send(&Method::GET, &address, 0, |_| false)?;
        self.check_model(&response, revision)?;
        let mut bytes = Vec::new();
        self.content(response)?
            .take(MOST_BYTES_OF_LIST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.no_hub(error))?;
        if bytes.len() as u64 > MOST_BYTES_OF_LIST {
            return Err(self.no_hub("a list of files of more than 32 MiB"));
        }
        let info: Info = serde_json::from_slice(&bytes).map_err(|error| self.no_hub(error))?;
        if !is_commit(&info.sha) {
            return Err(self.no_hub("no commit's hash"));
        }
        if is_commit(revision) && !info.sha.eq_ignore_ascii_case(revision) {
            return Err(self.no_hub("another commit than was asked for"));
        }
        let files = info.siblings.into_iter().map(|file| file.rfilename).collect();
        Ok(Listing { commit: info.sha, files })
    }

    /// Size and hash of a file.
    pub fn describe(&self, commit: &str, file: &str) -> Result<Description, String> {
        let address = self.address(commit, file);
        let linked = |headers: &HeaderMap| {
            [LINKED_ETAG, LINKED_SIZE].iter().all(|h| headers.contains_key(h))
        };
        let response = self.send(&Method::HEAD, &address, 0, linked)?;
        let headers = response.headers();
        if !response.status().is_redirection() {
            self.check_file(&response)?;
        }
        self.check_encoding(headers)?;
        if headers.get(REPO_COMMIT).is_some_and(|found| found.as_bytes() != commit.as_bytes()) {
            return Err(self.no_hub("a file of another commit than was asked for"));
        }
        let [etag, size] = match linked(headers) {
            true => [LINKED_ETAG, LINKED_SIZE],
            false => [ETAG, CONTENT_LENGTH],
        };
        let etag = text(headers, etag).ok_or_else(|| self.no_hub("a file without ETag"))?;
        let size = text(headers, size).and_then(|size| size.parse().ok());
        Ok(Description {
            etag: tag(etag).ok_or_else(|| self.no_hub(format!("the ETag {etag:?}")))?,
            size: size.ok_or_else(|| self.no_hub("a file without its size"))?,
        })
    }

    /// The content of a file of this size from the byte `from` on, or all of it where the hub knows no ranges, or
    /// knows the file to be shorter.
    pub fn open(&self, commit: &str, file: &str, from: u64, size: u64) -> Result<Content, String> {
        let address = self.address(commit, file);
        let mut from = from;
        let mut response = self.send(&Method::GET, &address, from, |_| false)?;
        if from > 0 && response.status() == 416 {
            from = 0;
            response = self.send(&Method::GET, &address, from, |_| false)?;
        }
        self.check_file(&response)?;
        let start = match response.status().as_u16() {
            206 => {
                let range = text(response.headers(), CONTENT_RANGE).and_then(range);
                match range {
                    Some((start, total)) if start == from && total == size => start,
                    _ => return Err(self.no_hub("another part of the file than was asked for")),
                }
            }
            _ => 0,
        };
        let length = text(response.headers(), CONTENT_LENGTH);
        if length.is_some_and(|length| length.parse() != Ok(size - start)) {
            return Err(self.no_hub(format!("a file of {size} bytes that has another length")));
        }
        Ok(Content { start, reader: Box::new(self.content(response)?) })
    }

    fn address(&self, commit: &str, file: &str) -> String {
        format!("{}/resolve/{commit}/{file}", self.model.id)
    }

    /// Asks, and follows redirects until an answer is none, or is all that is wanted.
    fn send(
        &self,
        method: &Method,
        address: &str,
        from: u64,
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Response<Body>, String> {
        let address = format!("{}/{address}", self.settings.endpoint);
        let mut url = address.parse().map_err(|_| self.no_hub(format!("no address: {address}")))?;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.ask(method, &url, from)?;
            if !response.status().is_redirection() || enough(response.headers()) {
                return Ok(response);
            }
            url = self.target(&url, response.headers())?;
        }
        Err(self.no_hub(format!("more than {MOST_REDIRECTS} redirects in a row")))
    }

    /// One request, again where a busy hub tells when.
    fn ask(&self, method: &Method, url: &Uri, from: u64) -> Result<Response<Body>, String> {
        let mut tries = 1;
        loop {
            let mut request = Request::builder().method(method).uri(url);
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let token = self.settings.token.as_ref();
            if let Some(token) = token.filter(|_| Origin::of(url).as_ref() == Some(&self.origin)) {
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    "your token has characters that no token has: set HF_TOKEN anew".to_owned()
                })?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.body(()).map_err(|error| self.no_hub(error))?;
            let response = self.agent.run(request).map_err(|error| self.unreachable(error))?;
            match wait(&response) {
                Some(wait) if wait <= LONGEST_WAIT && tries < MOST_TRIES => thread::sleep(wait),
                _ => return Ok(response),
            }
            tries += 1;
        }
    }

    /// Where a redirect leads: not from an encrypted connection to one that is not.
    fn target(&self, from: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
        let location =
            text(headers, LOCATION).ok_or_else(|| self.no_hub("a redirect that leads nowhere"))?;
        let refused = || self.no_hub(format!("a redirect to {location:?}"));
        let (scheme, authority) = from.scheme_str().zip(from.authority()).ok_or_else(refused)?;
        let absolute = location.split(['/', '?', '#']).next().is_some_and(|s| s.contains(':'));
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let url: Uri = match location {
            _ if absolute => location.to_owned(),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
            _ => format!("{scheme}://{authority}{folder}/{location}"),
        }
        .parse()
        .map_err(|_| refused())?;
        let origin = Origin::of(&url).ok_or_else(refused)?;
        match scheme == "https" && !origin.https {
            true => Err(refused()),
            false => Ok(url),
        }
    }

    fn content(&self, response: Response<Body>) -> Result<impl Read + use<>, String> {
        self.check_encoding(response.headers())?;
        Ok(response.into_body().into_reader())
    }

    fn check_encoding(&self, headers: &HeaderMap) -> Result<(), String> {
        match text(headers, CONTENT_ENCODING) {
            None | Some("identity") => Ok(()),
            Some(encoding) => Err(self.no_hub(format!("the encoding {encoding:?}"))),
        }
    }

    fn check_model(&self, response: &Response<Body>, revision: &str) -> Result<(), String> {
        let code = text(response.headers(), ERROR_CODE);
        match (response.status().as_u16(), code) {
            (200, _) => Ok(()),
            (_, Some("GatedRepo")) => Err(self.gated()),
            (_, Some("RevisionNotFound")) => Err(format!("it has no revision {revision}")),
            (401 | 403 | 404, _) if self.settings.token.is_none() => {
                Err("there is no such model, or it is \
                private: check the name, or set HF_TOKEN to a token that may read it"
                    .to_owned())
            }
            (401 | 403 | 404, _) => {
                Err("there is no such model, or your token may not read it: check the \
                name, and that the token is valid"
                    .to_owned())
            }
            _ => Err(self.answered(response)),
        }
    }

    fn check_file(&self, response: &Response<Body>) -> Result<(), String> {
        match response.status().as_u16() {
            200 | 206 => Ok(()),
            401 | 403 => Err(self.gated()),
            404 => Err(format!("{} has no such file", self.settings.endpoint)),
            _ => Err(self.answered(response)),
        }
    }

    fn gated(&self) -> String {
        let (id, endpoint) = (&self.model.id, &self.settings.endpoint);
        format!("it is gated: accept its terms at {endpoint}/{id} and set HF_TOKEN to your token")
    }

    fn answered(&self, response: &Response<Body>) -> String {
        let (status, endpoint) = (response.status().as_u16(), &self.settings.endpoint);
        match wait(response) {
            Some(wait) if wait > LONGEST_WAIT => format!(
                "{endpoint} answered with status {status}: try again in {} seconds, as it asks",
                wait.as_secs()
            ),
            _ => format!("{endpoint} answered with status {status}: try again later"),
        }
    }

    fn no_hub(&self, found: impl std::fmt::Display) -> String {
        format!("{} does not answer as the hub does ({found})", self.settings.endpoint)
    }

    /// What went wrong before any answer.
    fn unreachable(&self, error: ureq::Error) -> String {
        use ureq::Error as Http;
        match error {
            error @ (Http::Protocol(_) | Http::LargeResponseHeader(..) | Http::Http(_)) => {
                self.no_hub(error)
            }
            error => format!(
                "{} is out of reach ({error}): check the connection, or set HF_HUB_OFFLINE=1 to use \
                 what is in the cache",
                self.settings.endpoint
            ),
        }
    }
}

/// How long a hub that is busy asks to wait.
fn wait(response: &Response<Body>) -> Option<Duration> {
    if ![429, 503].contains(&response.status().as_u16()) {
        return None;
    }
    let seconds = text(response.headers(), RETRY_AFTER)?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// What an ETag is without its quotes, where it can be a file's name and leads nowhere else.
fn tag(etag: &str) -> Option<String> {
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let fit = (1..=128).contains(&etag.len()) && etag.bytes().all(plain);
    fit.then(|| etag.to_owned())
}

/// First byte of a `Content-Range`, and the size of the whole.
fn range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && Some(last) == u64::checked_sub(total, 1)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_names_of_files_or_refused() {
        for (etag, name) in [
            ("\"0123456789abcdef\"", "0123456789abcdef"),
            ("W/\"a-5\"", "a-5"),
            ("plain_1", "plain_1"),
        ] {
            assert_eq!(tag(etag).as_deref(), Some(name));
        }
        let long = "a".repeat(129);
        for etag in
            ["", "\"\"", "../../x", "..", ".", "a/b", "a\\b", "a.incomplete", "c:x", "ä", &long]
        {
            assert_eq!(tag(etag), None, "{etag}");
        }
    }

    #[test]
    fn ranges_end_where_the_file_does() {
        assert_eq!(range("bytes 5-9/10"), Some((5, 10)));
        for text in
            ["bytes 5-8/10", "bytes 9-5/10", "bytes */10", "bytes 0-9/0", "5-9/10", "bytes 0-9/*"]
        {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn redirects_lead_to_addresses_alike_or_safer() {
        let model: HubModel = "hf:o/m".parse().unwrap();
        let settings = |endpoint: &str| HubSettings {
            cache: "/nowhere".into(),
            endpoint: endpoint.to_owned(),
            token: None,
            offline: false,
        };
        let led = |from: &str, location: &str| {
            let settings = settings("https://hub");
            let client = Client::new(&model, &settings).unwrap();
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            client.target(&from.parse().unwrap(), &headers).ok().map(|url| url.to_string())
        };
        let secure = "https://hub/o/m/x?a=b";
        for (from, location, to) in [
            (secure, "/api/y", Some("https://hub/api/y")),
            (secure, "y?to=http://a", Some("https://hub/o/m/y?to=http://a")),
            (secure, "//cdn/y", Some("https://cdn/y")),
            (secure, "https://cdn:8443/y", Some("https://cdn:8443/y")),
            (secure, "http://hub/o/m/x", None),
            (secure, "file:///etc/passwd", None),
            (secure, "https://hub@evil/y", None),
            (secure, "https://", None),
            ("http://127.0.0.1:1/x", "http://127.0.0.1:2/x", Some("http://127.0.0.1:2/x")),
            ("http://127.0.0.1:1/x", "https://cdn/x", Some("https://cdn/x")),
        ] {
            assert_eq!(led(from, location).as_deref(), to, "{from} to {location}");
        }
        for endpoint in
            ["huggingface.co", "ftp://a", "https://", "https://user@hub", "https://hub?a"]
        {
            let error = Client::new(&model, &settings(endpoint)).err().unwrap();
            assert!(error.starts_with("HF_ENDPOINT is "), "{error}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let origin = |url: &str| Origin::of(&url.parse().unwrap());
        assert!(origin("https://hub/a") == origin("https://HUB:443/b"));
        for other in ["http://hub", "https://hub:444", "https://hub.evil", "https://evil/hub"] {
            assert!(origin(other) != origin("https://hub"), "{other}");
        }
    }
}
