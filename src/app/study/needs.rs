//! How much of its checkpoints a study needs: of those that are fetched in parts the layers that it takes. Asks the server for
//! the list of tensors of each pretrained checkpoint where that matters; the fine-tuned ones are taken to be like it.

use crate::analysis::Layers;
use crate::app::AppError;
use crate::app::blocking::run_blocking;
use crate::app::fit::alone;
use crate::app::parts::{MOST_SHARE, SMALL};
use crate::study::{Cell, Input, Need, Needs, split};

use super::Study;
use super::compute::keep;
use super::inputs::{Survey, listing};

/// The bytes of the layers of a model: all that the study takes, and those of its largest shard.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    taken: u64,
    largest_shard: u64,
}

/// What the study needs of each checkpoint.
///
/// # Errors
/// [`AppError`] when a list of tensors cannot be had.
pub async fn needs(study: &Study, survey: &Survey) -> Result<Needs, AppError> {
    let mut needs = Needs::default();
    let (shards, takes_all) = (study.spec.shards, study.spec.layers.takes_all());
    let mut largest = 0;
    for model in &study.spec.models {
        let cells: Vec<&Cell> = survey.plan.cells.iter().filter(|cell| cell.model == *model).collect();
        let Some(first) = cells.first() else { continue };
        let large = cells.iter().flat_map(|cell| cell.checkpoints()).any(|input| input.found.bytes > SMALL);
        let sizes = match (shards > 1 || !takes_all) && (large || survey.is_file(&first.pretrained)) {
            true => Some(sizes(study, survey, &first.pretrained).await?),
            false => None,
        };
        for input in cells.iter().flat_map(|cell| cell.checkpoints()) {
            let taken = sizes.filter(|_| !takes_all).map(|sizes| sizes.taken);
            needs.inputs.insert(input.reference.clone(), need(input, survey.is_file(input), taken));
        }
        let of_shard = |input: &Input| need(input, survey.is_file(input), sizes.map(|sizes| sizes.largest_shard)).store;
        let joint = survey.plan.joints.iter().any(|joint| joint.model == *model);
        let of_cells = cells.iter().map(|cell| cell.finetuned.iter().map(of_shard).sum::<u64>());
        let tuned = if joint { of_cells.sum() } else { of_cells.max().unwrap_or(0) };
        largest = largest.max(of_shard(&first.pretrained) + tuned);
    }
    needs.shard = (shards > 1).then_some(largest);
    Ok(needs)
}

/// What is needed of one checkpoint, of whose layers so many bytes are `taken`; all where that is not said.
fn need(input: &Input, is_file: bool, taken: Option<u64>) -> Need {
    let whole = input.found.bytes;
    let read = taken.map_or(whole, |taken| taken.min(whole));
    let in_parts = whole > SMALL && read as f64 <= MOST_SHARE * whole as f64;
    let store = match in_parts {
        _ if is_file => 0,
        true => read,
        false => whole,
    };
    Need { store, read }
}

async fn sizes(study: &Study, survey: &Survey, pretrained: &Input) -> Result<Sizes, AppError> {
    let listed = listing(&study.session, survey, pretrained).await?;
    let (filter, shards) = (study.spec.layers.clone(), study.spec.shards);
    run_blocking("the listing", move || {
        let layers = alone(&listed, |layers| keep(&filter, layers))?;
        let bytes = layer_bytes(&layers);
        let of_shard = |range: std::ops::Range<usize>| bytes.get(range).map_or(0, |bytes| bytes.iter().sum());
        let largest_shard = split(&bytes, shards).into_iter().map(of_shard).max().unwrap_or(0);
        Ok(Sizes { taken: bytes.iter().sum(), largest_shard })
    })
    .await
}

/// The bytes of each layer of one checkpoint.
pub(super) fn layer_bytes(layers: &Layers) -> Vec<u64> {
    layers.layers.iter().map(|layer| layer.parameters as u64 * layer.dtype.size() as u64).collect()
}
