//! Renders the report and every plot from synthetic data: `cargo run --example report_gallery -- FOLDER [hostile]`.
//!
//! The data is the same in every run. With `hostile`, one layer and one artifact carry markup in their names.

use std::error::Error;
use std::path::{Path, PathBuf};

use wandb_pca::report::between::{self, JointRow, PairRow};
use wandb_pca::report::input::{Comparison, FitSection, InputFile, Note, ReportInput, SCHEMA_VERSION, Verified};
use wandb_pca::report::palette::Theme;
use wandb_pca::report::plot::{self, MatrixScale, Measure, Spectra};
use wandb_pca::report::rows::{
    self, Certainty, ComponentRow, GroupRow, LayerRow, Matrix, NullBand, PairAngles, Score, Scores, Spectrum,
};
use wandb_pca::report::scene::Scene;
use wandb_pca::report::{csv, json, page, parquet, png, svg, vega};

const SEEDS: usize = 10;
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";
const MODULES: [(&str, u64); 8] = [
    ("ln_1.weight", 768),
    ("attn.in_proj_weight", 1_769_472),
    ("attn.in_proj_bias", 2_304),
    ("attn.out_proj.weight", 589_824),
    ("ln_2.weight", 768),
    ("mlp.c_fc.weight", 2_359_296),
    ("mlp.c_proj.weight", 2_359_296),
    ("mlp.c_proj.bias", 768),
];

/// Numbers between 0 and 1 that look random: SplitMix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn around_zero(&mut self) -> f64 {
        (0..6).map(|_| self.next() - 0.5).sum::<f64>()
    }
}

fn spectrum(noise: &mut Noise, decay: f64) -> Vec<f64> {
    let mut weights: Vec<f64> =
        (0..SEEDS - 1).map(|k| (-decay * k as f64).exp() * (0.9 + 0.2 * noise.next())).collect();
    weights.sort_by(|a, b| b.total_cmp(a));
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn fewest(ratios: &[f64], share: f64) -> Option<u32> {
    let place = rows::cumulative(ratios).iter().position(|sum| *sum >= share - 1e-12)?;
    u32::try_from(place + 1).ok()
}

fn layer(name: String, depth: Option<u32>, module: &str, parameters: u64, noise: &mut Noise) -> (LayerRow, Spectrum) {
    let decay = 0.05 + 0.4 * noise.next() * f64::from(depth.unwrap_or(0) + 2) / 13.0;
    let ratios = spectrum(noise, decay);
    let size = if module.contains("ln") { 2e-9 } else { 4e-8 };
    let per_parameter = size * (0.22 * f64::from(depth.unwrap_or(3))).exp() * (0.6 + 0.8 * noise.next());
    let entropy: f64 = ratios.iter().map(|ratio| -ratio * ratio.ln()).sum();
    let row = LayerRow {
        layer: name.clone(),
        depth,
        module: module.to_owned(),
        parameters,
        total_variance: Some(per_parameter * parameters as f64),
        variance_per_parameter: Some(per_parameter),
        first_ratio: ratios.first().copied(),
        second_ratio: ratios.get(1).copied(),
        effective_rank: Some(entropy.exp()),
        components_90: fewest(&ratios, 0.90),
        components_95: fewest(&ratios, 0.95),
        components_99: fewest(&ratios, 0.99),
        first_ratio_certainty: Certainty { error: Some(0.02), null_low: Some(0.108), null_high: Some(0.128) },
        ..LayerRow::default()
    };
    (row, Spectrum { layer: name, ratios })
}

fn layers(noise: &mut Noise, hostile: bool) -> (Vec<LayerRow>, Vec<Spectrum>) {
    let mut pairs = vec![layer("visual.conv1.weight".to_owned(), None, "conv1.weight", 589_824, noise)];
    for depth in 0..12 {
        for (module, parameters) in MODULES {
            let name = format!("visual.transformer.resblocks.{depth}.{module}");
            pairs.push(layer(name, Some(depth), module, parameters, noise));
        }
    }
    let last = if hostile { HOSTILE } else { "visual.proj" };
    pairs.push(layer(last.to_owned(), None, "proj", 393_216, noise));
    let (mut layers, spectra): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    layers.push(LayerRow {
        layer: "logit_scale".to_owned(),
        module: "logit_scale".to_owned(),
        parameters: 1,
        total_variance: Some(0.0),
        variance_per_parameter: Some(0.0),
        degenerate: true,
        ..LayerRow::default()
    });
    (layers, spectra)
}

/// The whole model, and the part of it that every layer of a block is.
fn groups(layers: &[LayerRow]) -> Vec<GroupRow> {
    let sum = |rows: &[&LayerRow]| LayerRow {
        parameters: rows.iter().map(|row| row.parameters).sum(),
        total_variance: Some(rows.iter().filter_map(|row| row.total_variance).sum()),
        ..LayerRow::default()
    };
    let group = |grouping: &str, group: String, rows: Vec<&LayerRow>| GroupRow {
        grouping: grouping.to_owned(),
        group,
        layers: rows.len() as u32,
        row: sum(&rows),
    };
    let of_block = |depth| layers.iter().filter(|row| row.depth == Some(depth)).collect();
    let blocks = (0..12).map(|depth| group("block", format!("visual.transformer.resblocks.{depth}"), of_block(depth)));
    blocks.chain([group("model", "model".to_owned(), layers.iter().collect())]).collect()
}

fn components(spectra: &[Spectrum]) -> Vec<ComponentRow> {
    let of_layer = |spectrum: &Spectrum| {
        let sums = rows::cumulative(&spectrum.ratios);
        let row = |(at, (ratio, sum)): (usize, (&f64, f64))| ComponentRow {
            layer: spectrum.layer.clone(),
            component: at as u32 + 1,
            explained_variance: *ratio,
            explained_variance_ratio: Some(*ratio),
            cumulative_ratio: Some(sum),
            singular_value: ratio.sqrt(),
        };
        spectrum.ratios.iter().zip(sums).enumerate().map(row).collect::<Vec<_>>()
    };
    spectra.iter().flat_map(of_layer).collect()
}

fn scores(noise: &mut Noise, groups: &[(&str, f64)]) -> Scores {
    let points = groups.iter().flat_map(|(group, centre)| (0..SEEDS).map(move |seed| (*group, *centre, seed)));
    let points = points.map(|(group, centre, seed)| Score {
        label: seed.to_string(),
        group: group.to_owned(),
        first: centre + 0.3 * noise.around_zero(),
        second: 0.3 * noise.around_zero() - 0.4 * centre.abs(),
    });
    Scores { points: points.collect(), ratios: [Some(0.243), Some(0.171)] }
}

fn fit(dataset: &str, noise: &mut Noise, hostile: bool) -> FitSection {
    let (layers, spectra) = layers(noise, hostile);
    let mut cosine = vec![vec![Some(1.0); SEEDS]; SEEDS];
    for (row, column) in (0..SEEDS).flat_map(|row| (0..row).map(move |column| (row, column))) {
        let value = Some(0.31 + 0.05 * noise.around_zero());
        cosine[row][column] = value;
        cosine[column][row] = value;
    }
    let frozen = Note { subject: "logit_scale".to_owned(), text: "has no variance: the same in every seed".to_owned() };
    let skipped = Note { subject: "positional_ids".to_owned(), text: "skipped: int64 has no task vector".to_owned() };
    FitSection {
        model: "ViT-B-16".to_owned(),
        dataset: dataset.to_owned(),
        pretrained: "demo/task-vectors/ViT-B-16_pt:v0".to_owned(),
        seeds: (0..SEEDS).map(|seed| seed.to_string()).collect(),
        groups: groups(&layers),
        layers,
        spectra,
        whole: spectrum(noise, 0.22),
        null_band: Some(NullBand {
            low: (0..SEEDS - 1).map(|k| 0.108 - 0.004 * k as f64).collect(),
            high: (0..SEEDS - 1).map(|k| 0.128 - 0.003 * k as f64).collect(),
        }),
        cosine: Some(Matrix { labels: (0..SEEDS).map(|seed| seed.to_string()).collect(), values: cosine }),
        scores: Some(scores(noise, &[("", 0.0)])),
        notes: vec![frozen, skipped],
    }
}

fn comparison(noise: &mut Noise, datasets: &[&str]) -> Comparison {
    let (mut angles, mut pairs) = (Vec::new(), Vec::new());
    let mut overlaps = vec![vec![Some(1.0); datasets.len()]; datasets.len()];
    for (row, column) in (0..datasets.len()).flat_map(|row| (0..row).map(move |column| (row, column))) {
        let mut degrees: Vec<f64> = (0..SEEDS - 1).map(|k| 55.0 + 3.5 * k as f64 + 4.0 * noise.next()).collect();
        degrees.sort_by(f64::total_cmp);
        let cosines: f64 = degrees.iter().map(|angle| angle.to_radians().cos().powi(2)).sum();
        overlaps[row][column] = Some(cosines / degrees.len() as f64);
        overlaps[column][row] = overlaps[row][column];
        let (first, second) = (datasets[column].to_owned(), datasets[row].to_owned());
        pairs.push(PairRow {
            grouping: "model".to_owned(),
            group: "model".to_owned(),
            first: first.clone(),
            second: second.clone(),
            components: [SEEDS as u32 - 1; 2],
            overlap: overlaps[row][column],
            degrees: degrees.clone(),
            first_in_second: Some(0.7 + 0.2 * noise.next()),
            second_in_first: Some(0.7 + 0.2 * noise.next()),
            mean_cosine: Some(0.1 * noise.next()),
        });
        angles.push(PairAngles { first, second, degrees });
    }
    let labels: Vec<String> = datasets.iter().map(|name| (*name).to_owned()).collect();
    let joint = ["visual.proj", "visual.conv1.weight"].map(|layer| JointRow {
        grouping: "layer".to_owned(),
        group: layer.to_owned(),
        parameters: 1000,
        scatter: 3.0,
        between: 1.0,
        within: 2.0,
        dataset_share: Some(0.25 + noise.next() / 2.0),
        ..JointRow::default()
    });
    let places: Vec<_> = datasets.iter().zip([-1.6, 0.0, 1.6]).map(|(name, place)| (*name, place)).collect();
    Comparison {
        angles,
        cosines: Some(Matrix { labels: labels.clone(), values: overlaps.clone() }),
        overlaps: Some(Matrix { labels, values: overlaps }),
        scores: Some(scores(noise, &places)),
        pairs,
        joint: joint.into(),
    }
}

fn inputs(datasets: &[&str], hostile: bool) -> Vec<InputFile> {
    let mut noise = Noise(7);
    let mut hex = |length| (0..length).map(|_| format!("{:x}", (noise.next() * 16.0) as u8)).collect::<String>();
    let seeds = datasets.iter().flat_map(|dataset| (0..SEEDS).map(move |seed| format!("ViT-B-16_{dataset}_{seed}")));
    let names = std::iter::once("ViT-B-16_pt".to_owned()).chain(seeds).enumerate();
    let files = names.map(|(position, name)| InputFile {
        reference: if hostile && position == 1 {
            HOSTILE.to_owned()
        } else {
            format!("demo/task-vectors/{name}:latest")
        },
        version: "v0".to_owned(),
        digest: hex(32),
        sha256: hex(64),
        size: Some(447_168_516),
        verified: if position == 5 { Verified::Partly } else { Verified::Whole },
    });
    files.collect()
}

fn save(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Result<(), Box<dyn Error>> {
    Ok(std::fs::write(folder.join(name), bytes)?)
}

fn save_plots(folder: &Path, input: &ReportInput) -> Result<(), Box<dyn Error>> {
    let Some(fit) = input.fits.first() else { return Ok(()) };
    let spectra = Spectra { whole: &fit.whole, layers: &fit.spectra, null: fit.null_band.as_ref() };
    let between = input.comparison.as_ref();
    let overlaps = between.and_then(|between| between.overlaps.as_ref());
    let plots: [(&str, Option<Scene>); 9] = [
        ("variance-by-depth", plot::variance_by_depth(&fit.layers, Measure::PerParameter)),
        ("scree", plot::scree(&spectra)),
        ("cumulative", plot::cumulative(&spectra)),
        (
            "cosine-similarity",
            fit.cosine.as_ref().and_then(|m| plot::matrix("Cosine similarity", m, MatrixScale::Signed)),
        ),
        ("seeds-in-plane", fit.scores.as_ref().and_then(plot::seeds_in_plane)),
        ("variance-by-layer", plot::variance_by_layer(&fit.layers, 30)),
        ("principal-angles", between.and_then(|between| plot::principal_angles(&between.angles))),
        ("overlap", overlaps.and_then(|m| plot::matrix("Subspace overlap", m, MatrixScale::Share))),
        ("datasets-in-plane", between.and_then(|b| b.scores.as_ref()).and_then(plot::seeds_in_plane)),
    ];
    for (name, scene) in plots {
        let Some(scene) = scene else { continue };
        for (theme, suffix) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
            save(folder, &format!("{name}-{suffix}.svg"), svg::file(&scene, theme))?;
            save(folder, &format!("{name}-{suffix}.png"), png::file(&scene, theme, 2.0)?)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "report-gallery".to_owned()));
    let hostile = arguments.next().as_deref() == Some("hostile");
    std::fs::create_dir_all(&folder)?;
    let datasets = ["CIFAR100", "EuroSAT", "SVHN"];
    let mut noise = Noise(2026);
    let mut fits: Vec<_> = datasets.iter().map(|dataset| fit(dataset, &mut noise, false)).collect();
    if hostile && let Some(first) = fits.first_mut() {
        *first = fit("CIFAR100", &mut Noise(2026), true);
    }
    let input = ReportInput {
        schema_version: SCHEMA_VERSION,
        title: "Task vectors of ViT-B-16 over seeds".to_owned(),
        generated: "Synthetic data, made by the gallery example".to_owned(),
        inputs: inputs(&datasets, hostile),
        fits,
        comparison: Some(comparison(&mut noise, &datasets)),
        notes: Vec::new(),
    };
    let Some(fit) = input.fits.first() else { return Ok(()) };
    let (layers, components) = (rows::layers_table(&fit.layers)?, rows::components_table(&components(&fit.spectra))?);
    save(&folder, "report.html", page::write(&input)?)?;
    save(&folder, "report.json", serde_json::to_vec(&input)?)?;
    save(&folder, "layers.parquet", parquet::write(&layers, &[("schema_version", "1")])?)?;
    save(&folder, "layers.csv", csv::write(&layers))?;
    save(&folder, "layers.json", json::write(&layers))?;
    save(&folder, "components.parquet", parquet::write(&components, &[("schema_version", "1")])?)?;
    for (chart, table) in vega::CHARTS.iter().zip([&layers, &components, &components]) {
        save(&folder, &format!("{}.vl.json", chart.name), chart.with_rows(table))?;
    }
    if let Some(comparison) = &input.comparison {
        let (pairs, joint) = (between::pairs_table(&comparison.pairs)?, between::joint_table(&comparison.joint)?);
        save(&folder, "pairs.parquet", parquet::write(&pairs, &[("schema_version", "1")])?)?;
        save(&folder, "joint.parquet", parquet::write(&joint, &[("schema_version", "1")])?)?;
    }
    save(&folder, "groups.parquet", parquet::write(&rows::groups_table(&fit.groups)?, &[("schema_version", "1")])?)?;
    save_plots(&folder, &input)
}
