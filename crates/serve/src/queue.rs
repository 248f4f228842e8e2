//! What waits for the device, and which of it goes together.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::model::Row;
use crate::refusal::Refusal;
use crate::shapes::Shapes;

/// Texts at the head of the queue that are looked at for a batch.
const LOOKED_AT: usize = 1024;

/// The answer to an input, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The model's raw numbers.
    pub numbers: Vec<f32>,
    /// Time in the queue.
    pub queued: Duration,
    /// Time of its batch on the device.
    pub inference: Duration,
}

/// The number of an input in its request, and its answer.
pub type Reply = (usize, Result<Answered, Refusal>);

/// An input that waits.
#[derive(Debug)]
pub struct Job {
    /// Number of its model.
    pub model: usize,
    pub row: Row,
    pub since: Instant,
    /// Its number in its request.
    pub index: usize,
    /// Where its answer goes; closed once nobody waits for it.
    pub reply: UnboundedSender<Reply>,
    /// Whether a device failed while it was on it.
    pub failed_before: bool,
}

impl Job {
    /// Sends the answer; nobody may be waiting any more.
    pub fn answer(self, answer: Result<Answered, Refusal>) {
        _ = self.reply.send((self.index, answer));
    }
}

/// Inputs that go to the device together.
#[derive(Debug)]
pub struct Batch {
    pub model: usize,
    /// Which of the model's lengths it is padded to.
    pub bucket: usize,
    pub jobs: Vec<Job>,
}

/// Why inputs are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many tokens are waiting.
    Tokens(usize),
    /// The server is ending.
    Closed,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    tokens: usize,
    closed: bool,
}

/// Inputs that wait for the device, in the order in which they came.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    came: Condvar,
    most_tokens: usize,
}

impl Queue {
    /// A queue of at most so many tokens.
    pub fn new(most_tokens: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), came: Condvar::new(), most_tokens })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves a list of jobs, which is as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all of these inputs, or none.
    ///
    /// # Errors
    /// When there is no room for all of them, or the server is ending.
    pub fn push(&self, jobs: Vec<Job>) -> Result<(), Full> {
        let tokens: usize = jobs.iter().map(|job| job.row.tokens()).sum();
        let mut state = self.state();
        if state.closed {
            return Err(Full::Closed);
        }
        if state.tokens + tokens > self.most_tokens {
            // What nobody waits for any more is in nobody's way.
            let State { jobs, tokens, .. } = &mut *state;
            drop_cancelled(jobs, tokens);
        }
        if state.tokens + tokens > self.most_tokens {
            return Err(Full::Tokens(state.tokens));
        }
        state.tokens += tokens;
        state.jobs.extend(jobs);
        drop(state);
        self.came.notify_one();
        Ok(())
    }

    /// Puts inputs back to where they were, whatever the room: their device failed.
    pub fn put_back(&self, jobs: Vec<Job>) {
        let mut state = self.state();
        for job in jobs.into_iter().rev() {
            state.tokens += job.row.tokens();
            state.jobs.push_front(job);
        }
    }

    /// The next batch, once there is one; nothing once the queue is closed and empty.
    pub fn take(&self, shapes: &[Shapes]) -> Option<Batch> {
        let mut state = self.state();
        loop {
            let State { jobs, tokens, closed } = &mut *state;
            drop_cancelled(jobs, tokens);
            if let Some(batch) = batch(jobs, shapes) {
                *tokens -= batch.jobs.iter().map(|job| job.row.tokens()).sum::<usize>();
                return Some(batch);
            }
            if *closed {
                return None;
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses all that waits.
    pub fn refuse_all(&self, refusal: &Refusal) {
        let jobs = {
            let mut state = self.state();
            state.tokens = 0;
            std::mem::take(&mut state.jobs)
        };
        jobs.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
    }

    /// Takes nothing more; what waits is still handed out.
    pub fn close(&self) {
        self.state().closed = true;
        self.came.notify_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits so long, or until it is closed.
    pub fn wait_closed(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut state = self.state();
        while !state.closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.came.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Inputs and tokens that wait.
    pub fn len(&self) -> (usize, usize) {
        let state = self.state();
        (state.jobs.len(), state.tokens)
    }
}

/// Drops the inputs that nobody waits for any more.
fn drop_cancelled(jobs: &mut VecDeque<Job>, tokens: &mut usize) {
    jobs.retain(|job| {
        let gone = job.reply.is_closed();
        if gone {
            *tokens -= job.row.tokens();
        }
        !gone
    });
}

/// The batch that the oldest input is in, where what waits for its model is cut into the batches that cost least.
fn batch(jobs: &mut VecDeque<Job>, shapes: &[Shapes]) -> Option<Batch> {
    let first = jobs.front()?;
    let (model, shapes) = (first.model, &shapes[first.model]);
    let own = shapes.bucket(first.row.tokens());
    let looked_at = jobs.iter().take(LOOKED_AT).enumerate();
    let mut waiting: Vec<(usize, usize)> = looked_at
        .filter(|(_, job)| job.model == model)
        .map(|(place, job)| (shapes.bucket(job.row.tokens()), place))
        .filter(|(bucket, _)| shapes.mixes() || *bucket == own)
        .collect();
    // By length; among equals the oldest first.
    waiting.sort_unstable();
    let buckets: Vec<usize> = waiting.iter().map(|(bucket, _)| *bucket).collect();
    let together = shapes.together(&buckets, buckets.partition_point(|&bucket| bucket < own));
    let bucket = buckets[together.end - 1];
    let mut chosen: Vec<usize> = waiting[together].iter().map(|(_, place)| *place).collect();
    chosen.sort_unstable();
    let mut taken = Vec::with_capacity(chosen.len());
    for place in chosen.into_iter().rev() {
        taken.extend(jobs.remove(place));
    }
    taken.reverse();
    Some(Batch { model, bucket, jobs: taken })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn shapes(mixes: bool) -> Shapes {
        Shapes::new((1..=16).map(|i| (4 * i, vec![1, 2, 4])).collect(), mixes)
    }

    /// Jobs of these models and lengths, and what waits for them.
    fn jobs(of: &[(usize, usize)]) -> (Vec<Job>, Vec<UnboundedReceiver<Reply>>) {
        let job = |(index, &(model, tokens)): (usize, &(usize, usize))| {
            let (reply, receiver) = unbounded_channel();
            let row = Row { ids: vec![1; tokens], ..Row::default() };
            let since = Instant::now();
            (Job { model, row, since, index, reply, failed_before: false }, receiver)
        };
        of.iter().enumerate().map(job).unzip()
    }

    fn taken(queue: &Queue, shapes: &[Shapes]) -> (usize, usize, Vec<usize>) {
        let batch = queue.take(shapes).unwrap();
        (batch.model, batch.bucket, batch.jobs.iter().map(|job| job.index).collect())
    }

    #[test]
    fn the_oldest_is_always_in_the_next_batch() {
        let queue = Queue::new(10_000);
        let of: Vec<(usize, usize)> = (0..60).map(|i| (i % 2, 1 + i * 37 % 64)).collect();
        let (all, _receivers) = jobs(&of);
        queue.push(all).unwrap();
        let shapes = [shapes(true), shapes(false)];
        let mut left: Vec<usize> = (0..60).collect();
        while let Some(&oldest) = left.first() {
            let (model, bucket, indices) = taken(&queue, &shapes);
            assert!(indices.contains(&oldest), "{indices:?} without {oldest}");
            assert!(indices.len() <= 4 && indices.is_sorted());
            for &index in &indices {
                let (own, tokens) = of[index];
                assert_eq!(own, model);
                let at = shapes[model].bucket(tokens);
                assert!(at == bucket || shapes[model].mixes() && at < bucket);
            }
            left.retain(|index| !indices.contains(index));
        }
        assert_eq!(queue.len(), (0, 0));
    }

    #[test]
    fn short_texts_join_long_ones_where_padding_costs_less_than_another_batch() {
        let shapes = || Shapes::new(vec![(8, vec![8]), (16, vec![8]), (200, vec![2, 8])], true);
        let of = [(0, 200), (0, 8), (0, 200), (0, 16), (0, 8)];
        let queue = Queue::new(10_000);
        let mut low = shapes();
        low.set_overhead(10.0);
        let low = [low];
        let (all, _receivers) = jobs(&of);
        queue.push(all).unwrap();
        assert_eq!(taken(&queue, &low), (0, 2, vec![0, 2]));
        // Eight rows of 16 cost more than eight of 8, but less than both batches.
        assert_eq!(taken(&queue, &low), (0, 1, vec![1, 3, 4]));
        let (all, _receivers) = jobs(&of);
        queue.push(all).unwrap();
        let mut high = shapes();
        high.set_overhead(2000.0);
        assert_eq!(taken(&queue, &[high]), (0, 2, vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_request_is_taken_whole_or_not() {
        let queue = Queue::new(20);
        let (first, _kept) = jobs(&[(0, 8), (0, 8)]);
        queue.push(first).unwrap();
        let (second, _kept) = jobs(&[(0, 4), (0, 4)]);
        assert_eq!(queue.push(second), Err(Full::Tokens(16)));
        assert_eq!(queue.len(), (2, 16));
        let (third, _kept) = jobs(&[(0, 4)]);
        queue.push(third).unwrap();
        queue.close();
        let (fourth, _kept) = jobs(&[(0, 1)]);
        assert_eq!(queue.push(fourth), Err(Full::Closed));
        let shapes = [shapes(true)];
        let (_, _, indices) = taken(&queue, &shapes);
        assert_eq!(indices, [0, 1, 0], "what waits is handed out");
        assert!(queue.take(&shapes).is_none());
    }

    #[test]
    fn cancelled_inputs_are_dropped_and_give_their_room_back() {
        let queue = Queue::new(40);
        let (all, mut receivers) = jobs(&[(0, 8), (0, 8), (0, 8), (0, 8)]);
        queue.push(all).unwrap();
        drop(receivers.remove(0));
        drop(receivers.remove(1));
        assert_eq!(taken(&queue, &[shapes(true)]), (0, 1, vec![1, 3]));
        assert_eq!(queue.len(), (0, 0));
    }

    #[test]
    fn what_a_device_failed_on_goes_first() {
        let queue = Queue::new(16);
        let (all, _receivers) = jobs(&[(0, 8), (0, 16)]);
        let mut all = all.into_iter();
        let (back, new) = (all.next().unwrap(), all.next().unwrap());
        queue.push(vec![new]).unwrap();
        queue.put_back(vec![back]);
        assert_eq!(queue.len(), (2, 24));
        let (_, bucket, indices) = taken(&queue, &[shapes(false)]);
        assert_eq!((bucket, indices), (1, vec![0]));
    }
}
