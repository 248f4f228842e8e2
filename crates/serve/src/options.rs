//! What a server is told.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::ServeError;

/// A model and the name that requests call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Folder with `config.json` and `model.safetensors`.
    pub folder: PathBuf,
}

/// What a server serves, where, and within which limits.
#[derive(Clone)]
pub struct Options {
    /// The models; the first answers requests that name none.
    pub models: Vec<Named>,
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0 for one that is free.
    pub port: u16,
    /// Keys, one of which a request has to bear; none where nobody is asked for one.
    pub keys: Vec<String>,
    /// Whether anybody may ask who reaches an address that is not this machine's alone.
    pub no_auth: bool,
    /// Tokens of a batch, padding included.
    pub max_batch_tokens: usize,
    /// Tokens that wait; what is beyond is refused with 429.
    pub max_queue_tokens: usize,
    /// Requests at work at one time; what is beyond is refused with 429.
    pub max_requests: usize,
    /// Connections at one time; others wait to be accepted.
    pub max_connections: usize,
    /// Inputs of one request; more are refused with 413.
    pub max_inputs: usize,
    /// Bytes of a request's body; more are refused with 413.
    pub max_body_bytes: usize,
    /// Time for the head of a request, from when the connection is free for it.
    pub header_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Time until a request is answered; later it is refused with 408.
    pub request_timeout: Duration,
    /// Time for what is at work when the server is asked to stop.
    pub drain_timeout: Duration,
}

impl Options {
    /// The defaults for these models: port 8080 of this machine alone.
    pub fn new(models: Vec<Named>) -> Self {
        Self {
            models,
            host: Ipv4Addr::LOCALHOST.into(),
            port: 8080,
            keys: Vec::new(),
            no_auth: false,
            max_batch_tokens: 4096,
            max_queue_tokens: 65_536,
            max_requests: 512,
            max_connections: 1024,
            max_inputs: 32,
            max_body_bytes: 2 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(25),
        }
    }

    /// Whether a request has to come by a name of this machine: a page in a browser could otherwise ask by a name of its
    /// own that leads here, where no key keeps it out.
    pub(crate) fn checks_host(&self) -> bool {
        self.host.is_loopback() && self.keys.is_empty() && !self.no_auth
    }

    /// Refuses what makes no sense, or is open to anybody without that being asked for.
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        let problem = |problem: String| Err(ServeError::Options(problem));
        if self.models.is_empty() {
            return problem("there is no model to serve".to_owned());
        }
        for (index, model) in self.models.iter().enumerate() {
            if self.models[..index].iter().any(|other| other.name == model.name) {
                let name = &model.name;
                return problem(format!(
                    "two models are called `{name}`: give them names, NAME=MODEL"
                ));
            }
        }
        if self.keys.iter().any(String::is_empty) {
            return problem("a key is empty".to_owned());
        }
        if !self.host.is_loopback() && self.keys.is_empty() && !self.no_auth {
            let host = self.host;
            return problem(format!(
                "others reach {host}, and no key is asked for: give --api-key-file, or --no-auth if anybody may ask"
            ));
        }
        for (name, value) in [
            ("max-batch-tokens", self.max_batch_tokens),
            ("max-queue-tokens", self.max_queue_tokens),
            ("max-requests", self.max_requests),
            ("max-inputs", self.max_inputs),
            ("max-body-bytes", self.max_body_bytes),
        ] {
            if value == 0 {
                return problem(format!("{name} is 0: nothing could be answered"));
            }
        }
        Ok(())
    }
}

/// Without its keys.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("models", &self.models)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}
