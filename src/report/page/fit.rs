//! The section of one fit: facts, plots, and the table of its layers.
//!
//! Owns the columns of that table. No I/O.

use super::super::input::FitSection;
use super::super::number;
use super::super::plot::{self, MatrixScale, Measure, Spectra};
use super::super::rows::{GroupRow, LayerRow, Spectrum};
use super::html::Html;
use super::tables::{self, Cell, columns, header, write_cell};
use super::{definition_list, figures, notes};

/// Layers in the ranking; the table has all of them.
const RANKED_LAYERS: usize = 25;

/// Writes the section; `number` counts the fits of the page from 1.
pub(super) fn write(html: &mut Html, fit: &FitSection, number: usize) {
    html.raw("<section id=\"fit-").count(number as u64).raw("\"><h2>").text(&fit.name()).raw("</h2>\n");
    if !fit.pretrained.is_empty() {
        html.raw("<p class=\"quiet small\">Pretrained: <code>").text(&fit.pretrained).raw("</code></p>");
    }
    if !fit.seeds.is_empty() {
        html.raw("<p class=\"quiet small\">Seeds: ").text(&fit.seeds.join(", ")).raw("</p>\n");
    }
    facts(html, fit);
    let id = format!("fit-{number}");
    let spectra = Spectra { whole: &fit.whole, layers: &fit.spectra, null: fit.null_band.as_ref() };
    let plots = [
        plot::variance_by_depth(&fit.layers, Measure::PerParameter),
        plot::scree(&spectra),
        plot::cumulative(&spectra),
        fit.scores.as_ref().and_then(plot::seeds_in_plane),
        fit.cosine.as_ref().and_then(|matrix| plot::matrix("Cosine similarity", matrix, MatrixScale::Signed)),
        plot::variance_by_layer(&fit.layers, RANKED_LAYERS),
    ];
    figures(html, &id, plots);
    layers(html, fit);
    if !fit.groups.is_empty() {
        html.raw("<h3>Blocks, modules, whole model</h3>\n");
        groups(html, &fit.groups);
    }
    if !fit.notes.is_empty() {
        html.raw("<h3>Notes</h3>\n");
        notes(html, &fit.notes);
    }
    html.raw("</section>\n");
}

fn facts(html: &mut Html, fit: &FitSection) {
    let degenerate = fit.layers.iter().filter(|row| row.degenerate).count();
    let without_variance = match degenerate {
        0 => String::new(),
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    };
    let first = fit.whole.first().map(|ratio| number::percent(*ratio)).unwrap_or_default();
    let off_diagonal: Vec<f64> = fit
        .cosine
        .iter()
        .flat_map(|matrix| matrix.values.iter().enumerate())
        .flat_map(|(row, values)| {
            values.iter().enumerate().filter(move |(column, _)| *column != row).filter_map(|(_, value)| *value)
        })
        .collect();
    let cosine = match off_diagonal.len() {
        0 => String::new(),
        count => number::short(off_diagonal.iter().sum::<f64>() / count as f64),
    };
    let sign_conflict = fit.groups.last().and_then(|whole| whole.row.sign_conflict);
    definition_list(
        html,
        &[
            ("Seeds", number::count(fit.seeds.len() as u64)),
            ("Layers", number::count(fit.layers.len() as u64)),
            ("Parameters", number::compact(fit.parameters())),
            ("Total variance", number::short(fit.total_variance())),
            ("First component", first),
            ("Mean cosine", cosine),
            ("Sign conflict", sign_conflict.map(number::percent).unwrap_or_default()),
            ("Without variance", without_variance),
        ],
    );
}

fn layers(html: &mut Html, fit: &FitSection) {
    html.raw("<h3>Layers</h3>\n");
    tables::open(html, "layers");
    for column in columns(&["Layer"], &["Depth", "Parameters", "Total variance", "Per parameter", "1st", "2nd"]) {
        header(html, &column);
    }
    html.raw("<th scope=\"col\">Spectrum</th>");
    let measured = Measured::of(&fit.layers);
    for column in columns(&[], &[&["Effective rank", "k90", "k95", "k99"][..], &CERTAINTY, measured.names()].concat()) {
        header(html, &column);
    }
    html.raw("</tr></thead><tbody>\n");
    // Spectra come in the order of the layers, so that a search from the last one found stays short.
    let mut from = 0;
    for row in &fit.layers {
        let found = fit.spectra.iter().skip(from).position(|spectrum| spectrum.layer == row.layer);
        let spectrum = found.and_then(|offset| fit.spectra.get(from + offset));
        from += found.map_or(0, |offset| offset + 1);
        layer(html, (row, spectrum), measured);
    }
    tables::close(html);
}

fn layer(html: &mut Html, (row, spectrum): (&LayerRow, Option<&Spectrum>), measured: Measured) {
    html.raw("<tr>");
    let before = [
        Cell::Name(&row.layer),
        Cell::Whole(row.depth.map(u64::from)),
        Cell::Whole(Some(row.parameters)),
        Cell::Number(row.total_variance, number::short),
        Cell::Number(row.variance_per_parameter, number::short),
        Cell::Number(row.first_ratio, number::percent),
        Cell::Number(row.second_ratio, number::percent),
    ];
    before.iter().for_each(|cell| write_cell(html, cell));
    html.raw("<td>");
    if let Some(spectrum) = spectrum {
        sparkline(html, &spectrum.ratios);
    }
    html.raw("</td>");
    write_cell(html, &Cell::Number(row.effective_rank, |rank| format!("{rank:.1}")));
    for components in [row.components_90, row.components_95, row.components_99] {
        write_cell(html, &Cell::Whole(components.map(u64::from)));
    }
    certainty(row).iter().for_each(|cell| write_cell(html, cell));
    let shares = [row.sign_conflict, row.sign_conflict_trimmed, row.mass_top_1, row.mass_top_10];
    let shares = shares.map(|share| Cell::Number(share, number::percent));
    let singular = [Cell::Number(row.singular_interference, number::short)];
    let interference = shares.iter().chain(&singular).take(measured.names().len());
    interference.for_each(|cell| write_cell(html, cell));
    html.raw("</tr>\n");
}

fn groups(html: &mut Html, groups: &[GroupRow]) {
    let numbers = ["Layers", "Parameters", "Total variance", "Per parameter", "1st", "2nd", "Effective rank", "k95"];
    let measured = groups.iter().any(|group| group.row.sign_conflict.is_some());
    let conflicts = if measured { &INTERFERENCE[..2] } else { &[] };
    let rows = groups.iter().map(|group| {
        let row = &group.row;
        let mut cells = vec![Cell::Name(&group.group), Cell::Word(&group.grouping)];
        cells.push(Cell::Whole(Some(group.layers.into())));
        cells.push(Cell::Whole(Some(row.parameters)));
        cells.extend([row.total_variance, row.variance_per_parameter].map(|value| Cell::Number(value, number::short)));
        cells.extend([row.first_ratio, row.second_ratio].map(|ratio| Cell::Number(ratio, number::percent)));
        cells.push(Cell::Number(row.effective_rank, |rank| format!("{rank:.1}")));
        cells.push(Cell::Whole(row.components_95.map(u64::from)));
        cells.extend(certainty(row));
        let shares = [row.sign_conflict, row.sign_conflict_trimmed].map(|share| Cell::Number(share, number::percent));
        cells.extend(shares.into_iter().take(conflicts.len()));
        cells
    });
    tables::write(html, "groups", &columns(&["Group", "By"], &[&numbers[..], &CERTAINTY, conflicts].concat()), rows);
}

/// How much the task vectors get into each other's way; the last one was asked for by itself.
const INTERFERENCE: [&str; 5] = ["Sign conflict", "of top 20 %", "Mass in top 1 %", "in top 10 %", "STI"];

/// How much of [`INTERFERENCE`] was measured.
#[derive(Clone, Copy)]
enum Measured {
    Nothing,
    Elementwise,
    Singular,
}

impl Measured {
    fn of(layers: &[LayerRow]) -> Self {
        let some = |value: fn(&LayerRow) -> Option<f64>| layers.iter().any(|row| value(row).is_some());
        match (some(|row| row.sign_conflict), some(|row| row.singular_interference)) {
            (_, true) => Self::Singular,
            (true, false) => Self::Elementwise,
            (false, false) => Self::Nothing,
        }
    }

    /// Columns of the table of layers.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Elementwise => &INTERFERENCE[..4],
            Self::Singular => &INTERFERENCE,
        }
    }
}

/// How sure the first ratio is.
const CERTAINTY: [&str; 3] = ["1st ±", "1st random low", "1st random high"];

fn certainty(row: &LayerRow) -> [Cell<'static>; 3] {
    let sure = row.first_ratio_certainty;
    [sure.error, sure.null_low, sure.null_high].map(|value| Cell::Number(value, number::percent))
}

/// Bars of the first ratios, as high as their share of everything.
fn sparkline(html: &mut Html, ratios: &[f64]) {
    const BARS: usize = 12;
    const HEIGHT: f64 = 18.0;
    html.raw("<svg class=\"spark\" width=\"72\" height=\"18\" viewBox=\"0 0 72 18\" aria-hidden=\"true\"><path d=\"");
    for (position, ratio) in ratios.iter().take(BARS).enumerate() {
        let height = (ratio.clamp(0.0, 1.0) * HEIGHT * 10.0).round() / 10.0;
        html.raw("M")
            .count(position as u64 * 6)
            .raw(" 18v-")
            .exact(height.max(0.5))
            .raw("h5v")
            .exact(height.max(0.5))
            .raw("z");
    }
    html.raw("\"/></svg>");
}
