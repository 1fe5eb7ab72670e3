//! The section of one fit: facts, plots, and the table of its layers.
//!
//! Owns the columns of that table. A cell shows a number for people and carries the exact one in `data-value`. No I/O.

use super::super::input::FitSection;
use super::super::number;
use super::super::plot::{self, MatrixScale, Measure, Spectra};
use super::super::rows::{LayerRow, Spectrum};
use super::html::Html;
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
    if !fit.notes.is_empty() {
        html.raw("<h3>Notes</h3>\n");
        notes(html, &fit.notes);
    }
    html.raw("</section>\n");
}

fn facts(html: &mut Html, fit: &FitSection) {
    let degenerate = fit.layers.iter().filter(|row| row.degenerate).count();
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
    definition_list(
        html,
        &[
            ("Seeds", number::count(fit.seeds.len() as u64)),
            ("Layers", number::count(fit.layers.len() as u64)),
            ("Parameters", number::compact(fit.parameters())),
            ("Total variance", number::short(fit.total_variance())),
            ("First component", first),
            ("Mean cosine", cosine),
            ("Without variance", if degenerate == 0 { String::new() } else { format!("{degenerate} layers") }),
        ],
    );
}

fn layers(html: &mut Html, fit: &FitSection) {
    html.raw("<h3>Layers</h3>\n<div class=\"layers\"><div class=\"tools\"><input type=\"search\" ");
    html.raw(
        "placeholder=\"Search layers\" aria-label=\"Search layers\"><output class=\"quiet small\"></output></div>",
    );
    html.raw("<div class=\"scroll\"><table><thead><tr>");
    for name in ["Layer", "Depth", "Parameters", "Total variance", "Per parameter", "1st", "2nd"] {
        header(html, name);
    }
    html.raw("<th scope=\"col\">Spectrum</th>");
    for name in ["Effective rank", "k90", "k95", "k99"] {
        header(html, name);
    }
    html.raw("</tr></thead><tbody>\n");
    // Spectra come in the order of the layers, so that a search from the last one found stays short.
    let mut from = 0;
    for row in &fit.layers {
        let found = fit.spectra.iter().skip(from).position(|spectrum| spectrum.layer == row.layer);
        let spectrum = found.and_then(|offset| fit.spectra.get(from + offset));
        from += found.map_or(0, |offset| offset + 1);
        layer(html, row, spectrum);
    }
    html.raw("</tbody></table></div></div>\n");
}

fn header(html: &mut Html, name: &'static str) {
    html.raw(if name == "Layer" { "<th class=\"name\" scope=\"col\">" } else { "<th class=\"number\" scope=\"col\">" });
    html.raw("<button type=\"button\">").raw(name).raw("</button></th>");
}

fn layer(html: &mut Html, row: &LayerRow, spectrum: Option<&Spectrum>) {
    html.raw("<tr><td class=\"name\">").text(&row.layer).raw("</td>");
    whole(html, row.depth.map(u64::from));
    whole(html, Some(row.parameters));
    for value in [row.total_variance, row.variance_per_parameter] {
        cell(html, value, number::short);
    }
    for ratio in [row.first_ratio, row.second_ratio] {
        cell(html, ratio, number::percent);
    }
    html.raw("<td>");
    if let Some(spectrum) = spectrum {
        sparkline(html, &spectrum.ratios);
    }
    html.raw("</td>");
    cell(html, row.effective_rank, |rank| format!("{rank:.1}"));
    for components in [row.k90, row.k95, row.k99] {
        whole(html, components.map(u64::from));
    }
    html.raw("</tr>\n");
}

fn whole(html: &mut Html, value: Option<u64>) {
    match value {
        Some(value) => {
            html.raw("<td class=\"number\" data-value=\"").count(value).raw("\">").text(&number::count(value))
        }
        None => html.raw("<td class=\"number\">—"),
    };
    html.raw("</td>");
}

fn cell(html: &mut Html, value: Option<f64>, format: fn(f64) -> String) {
    match value.filter(|value| value.is_finite()) {
        Some(value) => html.raw("<td class=\"number\" data-value=\"").exact(value).raw("\">").text(&format(value)),
        None => html.raw("<td class=\"number\">—"),
    };
    html.raw("</td>");
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
