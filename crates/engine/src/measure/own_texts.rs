//! How near a student that writes is to its teacher in texts of its own, where it goes on from what it has written before.

use crate::data::{Dataset, PackedDocuments};
use crate::device::Device;
use crate::error::Error;
use crate::generate::{Writer, WritingPlans};
use crate::measure::Evaluator;
use crate::models::{BatchEncoder, Input, ModelConfig};
use crate::objective::{ANSWERS_ALONE, TeacherAnswers};
use crate::recipe::OnPolicy;
use crate::results::Metrics;
use crate::store::{Store, StorePart};

/// Test examples in whose place texts are written.
const EXAMPLES: usize = 64;
/// Texts side by side.
const ROWS: usize = 8;

/// What a model's guesses are in texts that it writes itself from the beginnings of test documents, beside the teacher's.
///
/// # Errors
/// When the device fails, or no text has a token.
pub(crate) fn measure(
    device: &mut dyn Device,
    (config, store): (&ModelConfig, &Store),
    teacher: &dyn TeacherAnswers,
    (how, seed): (&OnPolicy, u32),
    test: &Dataset,
) -> Result<Metrics, Error> {
    let feed = BatchEncoder::of_data(&config.input, test)?;
    let plans = WritingPlans::new(config, &store.layout, ROWS)?;
    let load = |device: &mut dyn Device, plan: &_, cache: &Store| {
        let stores = [store, cache];
        let place = |at: StorePart| stores.get(at.store)?.buffer(at.part, at.segment);
        device.load(plan, &place)
    };
    let mut writer = Writer::new(device, (config, store), how, plans.as_ref(), load)?;
    let examples = feed.sample(EXAMPLES.min(feed.len()));
    let written = writer.write(device, store, (&feed, &examples), seed);
    writer.close(device);
    let written = written?;
    let texts = written.iter().flatten().map(|text| (&*text.tokens, text.prompt));
    let length = match &config.input {
        Input::Tokens(tokens) => tokens.max_length,
        Input::Numbers { .. } => 0,
    };
    let own = Dataset::unlabelled(PackedDocuments::of_texts(texts, length, true)?);
    let feed = BatchEncoder::of_data(&config.input, &own)?;
    let mut evaluator = Evaluator::new(config, store).against(Some(teacher)).in_detail();
    let metrics = evaluator.metrics(device, (&feed, &own), None, &ANSWERS_ALONE);
    evaluator.close(device);
    metrics
}
