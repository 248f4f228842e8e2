//! A teacher's answers on disk, held to the teacher itself before students learn them.

use super::setup::Setup;
use crate::device::Device;
use crate::error::Error;
use crate::files::bad;
use crate::measure::Evaluator;
use crate::measure::batches::rows;
use crate::models::BatchEncoder;
use crate::objective::TeacherAnswers;
use crate::teacher_cache::{CachedAnswers, Comparison, Difference};

/// How far a cache's answers to some examples are from those that its teacher gives now, on this device.
///
/// # Errors
/// When the device fails, or an answer cannot be read.
pub(crate) fn compare(
    device: &mut dyn Device,
    cached: &CachedAnswers<'_>,
    feed: &BatchEncoder<'_>,
    batches: &[Vec<u32>],
    temperature: f32,
) -> Result<Difference, Error> {
    let (config, store) = cached.teacher;
    let width = cached.cache.identity().width;
    let comparison = Comparison::new(device, (config, store), width, temperature)?;
    let mut evaluator = Evaluator::new(config, store);
    evaluator.prepare_kept(device, feed, &mut batches.iter())?;
    let mut difference = Difference::default();
    for batch in batches {
        let exact = evaluator.kept(device, feed, batch)?;
        let kept = cached.rows(batch, exact.len() / width)?;
        difference = difference.and(&comparison.of(device, &exact, &kept)?);
    }
    evaluator.close(device);
    comparison.close(device);
    Ok(difference)
}

/// Asks the teacher once more about a few examples of what the students learn from, and compares: what a person should know.
/// Nothing where there is no cache.
///
/// # Errors
/// [`Error::Model`] naming the cache when its answers are further off than it promised.
pub(crate) fn check(
    device: &mut dyn Device,
    setup: &Setup,
    teacher: &dyn TeacherAnswers,
) -> Result<Option<String>, Error> {
    let Some(cached) = setup.cached(teacher) else { return Ok(None) };
    let config = cached.teacher.0;
    let feed = BatchEncoder::new(&config.input, setup.transfer.examples())?;
    let batch = feed.sample(rows(config).min(feed.len()));
    let temperature = setup.objective.temperature;
    let found = compare(device, &cached, &feed, &[batch], temperature)?;
    let (cache, limit) = (cached.cache, cached.cache.limit());
    if found.error.is_nan() || found.error > limit {
        return Err(bad(
            cache.folder(),
            format!(
                "the teacher's answers to some examples are {} away from those that are kept, and {limit:.1e} is the most: \
                 label again, with more bits (`--numbers f16`), or leave `teacher.cache` out",
                found.in_words()
            ),
        ));
    }
    Ok(Some(format!(
        "The teacher's answers come from {}: of {} numbers in {} a row, {} away from what it answers now",
        cache.folder().display(),
        cache.identity().width,
        cache.identity().numbers.name(),
        found.in_words()
    )))
}
