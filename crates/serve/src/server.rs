//! The server: its address, its connections, its beginning and its end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use distil_gpu_engine::Error;
use distil_gpu_engine::device::Device;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::app::App;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::options::Options;
use crate::queue::Queue;
use crate::runner::{self, Open, Shared};
use crate::{ServeError, routes};

/// How often it is looked whether the server is to stop.
const TICK: Duration = Duration::from_millis(50);
/// The most bytes of a request's head, and of what is read at a time.
const HEAD_BYTES: usize = 32 << 10;
/// Threads on which large requests become tokens.
const READERS: usize = 2;

/// What is known once the models are loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The device's name.
    pub device: String,
    /// Bytes on the device.
    pub bytes: u64,
    /// Plans that are loaded.
    pub plans: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

/// A server that has its address, and knows what its models are.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
}

type Started = oneshot::Receiver<Result<Ready, Error>>;

impl Server {
    /// Takes the address and reads what the models' folders say of them.
    ///
    /// # Errors
    /// When options make no sense, a folder is no model's, or the address cannot be had.
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        options.check()?;
        let wanted = SocketAddr::new(options.host, options.port);
        let listen = || {
            let listener = TcpListener::bind(wanted)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen()
            .map_err(|source| ServeError::Listen { address: wanted.to_string(), source })?;
        let models = options.models.iter().cloned().map(Model::load);
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let metrics = Metrics::new().map_err(|error| ServeError::Options(error.to_string()))?;
        let app = App {
            models: Arc::new(models),
            queue: Queue::new(options.max_queue_tokens),
            metrics: Arc::new(metrics),
            ready: Arc::new(AtomicBool::new(false)),
            requests: Semaphore::new(options.max_requests.min(Semaphore::MAX_PERMITS)),
            options,
        };
        Ok(Self { listener, address, app: Arc::new(app) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` says so, then answers what is at work. `open` opens the device, again where it fails; `ready` is
    /// called once the models are loaded: until then requests are refused with 503.
    ///
    /// # Errors
    /// When the models cannot be loaded onto the device, or the system refuses.
    pub fn run(
        self,
        open: impl FnMut() -> Result<Box<dyn Device>, Error> + Send + 'static,
        stop: impl Fn() -> bool,
        ready: impl FnOnce(&Ready),
    ) -> Result<(), ServeError> {
        let Self { listener, app, .. } = self;
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_io().enable_time().max_blocking_threads(READERS).build()?;
        let shared = Shared {
            models: app.models.clone(),
            queue: app.queue.clone(),
            metrics: app.metrics.clone(),
            ready: app.ready.clone(),
            max_batch_tokens: app.options.max_batch_tokens,
        };
        let (tell, started) = oneshot::channel();
        let open: Open = Box::new(open);
        let device = std::thread::Builder::new().name("device".to_owned()).spawn(move || {
            // Nobody is told where the server has ended before.
            runner::run(&shared, open, |result| _ = tell.send(result));
        })?;
        let served = runtime.block_on(serve(listener, &app, started, stop, ready));
        app.queue.close();
        runtime.shutdown_timeout(Duration::from_secs(1));
        let joined = device.join().map_err(|_| ServeError::Ended);
        served.and(joined)
    }
}

async fn serve(
    listener: TcpListener,
    app: &Arc<App>,
    started: Started,
    stop: impl Fn() -> bool,
    ready: impl FnOnce(&Ready),
) -> Result<(), ServeError> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = routes::router(app.clone());
    let connections = Arc::new(Semaphore::new(app.options.max_connections.max(1)));
    let graceful = GracefulShutdown::new();
    let mut starting = Some((started, ready));
    while !stop() {
        if let Some((mut started, ready)) = starting.take() {
            match started.try_recv() {
                Ok(Ok(known)) => ready(&known),
                Ok(Err(error)) => return Err(error.into()),
                Err(oneshot::error::TryRecvError::Empty) => starting = Some((started, ready)),
                Err(oneshot::error::TryRecvError::Closed) => return Err(ServeError::Ended),
            }
        }
        let Ok(place) = timeout(TICK, connections.clone().acquire_owned()).await else { continue };
        let stream = match timeout(TICK, listener.accept()).await {
            Ok(Ok((stream, _))) => stream,
            Ok(Err(_)) => {
                // Too many open files, or a client that left: what is open goes on, and others wait.
                tokio::time::sleep(TICK).await;
                continue;
            }
            Err(_) => continue,
        };
        // Answers are small, and go out at once.
        _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.options.header_timeout)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // What is wrong with a connection is its client's affair.
            _ = watched.await;
            drop(place);
        });
    }
    drop(listener);
    let begun = Instant::now();
    let drained = timeout(app.options.drain_timeout, graceful.shutdown()).await;
    if drained.is_err() {
        let seconds = begun.elapsed().as_secs();
        eprintln!("distil-gpu: after {seconds} s some requests are not answered; they are left");
    }
    Ok(())
}
