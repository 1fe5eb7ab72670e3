//! One self-contained HTML page.
//!
//! Owns the order and the words of the report: totals, plots, the table of layers, inputs with digests, notes. The page
//! loads nothing: style, script, typeface and plots are inside, and its content security policy lets a browser run no
//! other script than ours and open no connection. It works without script; script adds sorting, search and the theme
//! switch. No I/O.

mod between;
mod fit;
mod html;
mod tables;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use self::html::Html;
use super::ReportError;
use super::font::Weight;
use super::input::{InputFile, Note, ReportInput, SCHEMA_VERSION, Verified};
use super::number;
use super::palette::{self, Theme};
use super::scene::Scene;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The page as UTF-8 text; the same input gives the same text.
///
/// # Errors
/// [`ReportError::SchemaVersion`] when the input was made for another version.
pub fn write(input: &ReportInput) -> Result<String, ReportError> {
    if input.schema_version != SCHEMA_VERSION {
        return Err(ReportError::SchemaVersion { found: input.schema_version, known: SCHEMA_VERSION });
    }
    let mut html = Html::default();
    head(&mut html, &input.title);
    html.raw("<body>\n<header class=\"top\"><div><h1>").text(&input.title).raw("</h1>");
    html.raw("<p class=\"quiet\">").text(&input.generated).raw("</p></div>");
    html.raw("<button id=\"theme\" type=\"button\">Light / dark</button></header>\n<main>\n");
    totals(&mut html, input);
    contents(&mut html, input);
    for (position, section) in input.fits.iter().enumerate() {
        fit::write(&mut html, section, position + 1);
    }
    if let Some(section) = &input.comparison {
        between::write(&mut html, section);
    }
    if !input.inputs.is_empty() {
        inputs(&mut html, &input.inputs);
    }
    if !input.notes.is_empty() {
        html.raw("<section id=\"notes\"><h2>Notes</h2>\n");
        notes(&mut html, &input.notes);
        html.raw("</section>\n");
    }
    html.raw(TERMS).raw("</main>\n<footer>wandb-pca ").raw(env!("CARGO_PKG_VERSION"));
    html.raw("; this page is complete in itself and loads nothing.</footer>\n<script>").raw(SCRIPT);
    html.raw("</script>\n</body>\n</html>\n");
    Ok(html.finish())
}

fn head(html: &mut Html, title: &str) {
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ");
    html.raw("font-src data:; img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-");
    html.computed(&STANDARD.encode(Sha256::digest(SCRIPT))).raw("'\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n<title>");
    html.text(title).raw("</title>\n<style>\n");
    for (weight, number) in [(Weight::Regular, "400"), (Weight::SemiBold, "600")] {
        html.raw("@font-face{font-family:Inter;font-weight:").raw(number);
        html.raw(";src:url(data:font/otf;base64,").computed(&STANDARD.encode(weight.file())).raw(")}\n");
    }
    let (light, dark) = (palette::declarations(Theme::Light), palette::declarations(Theme::Dark));
    html.raw(":root{").computed(&light).raw("}\n@media (prefers-color-scheme:dark){:root:not([data-theme=light]){");
    html.computed(&dark).raw("}}\n:root[data-theme=dark]{").computed(&dark);
    // The repeated selector outweighs the rules above: paper is light.
    html.raw("}\n@media print{:root:root:root{").computed(&light).raw("}}\n").raw(STYLE).raw("</style>\n</head>\n");
}

fn totals(html: &mut Html, input: &ReportInput) {
    let mut facts: Vec<(&'static str, String)> = Vec::new();
    let distinct = |names: Vec<&str>| {
        let mut names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        names.dedup();
        names.join(", ")
    };
    facts.push(("Model", distinct(input.fits.iter().map(|fit| fit.model.as_str()).collect())));
    facts.push(("Datasets", distinct(input.fits.iter().map(|fit| fit.dataset.as_str()).collect())));
    let seeds = input.fits.iter().map(|fit| fit.seeds.len() as u64).max().unwrap_or(0);
    facts.push(("Seeds per dataset", number::count(seeds)));
    if let Some(fit) = input.fits.first() {
        facts.push(("Layers", number::count(fit.layers.len() as u64)));
        facts.push(("Parameters", number::compact(fit.parameters())));
    }
    if !input.inputs.is_empty() {
        let count = |verified| input.inputs.iter().filter(|file| file.verified == verified).count();
        let mut text = format!("{} of {}", count(Verified::Whole), input.inputs.len());
        if count(Verified::Partly) > 0 {
            text += &format!(", {} partly", count(Verified::Partly));
        }
        facts.push(("Inputs verified", text));
    }
    definition_list(html, &facts);
}

/// Facts side by side; those without a value are left out.
fn definition_list(html: &mut Html, facts: &[(&'static str, String)]) {
    html.raw("<dl class=\"facts\">");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        html.raw("<div><dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd></div>");
    }
    html.raw("</dl>\n");
}

fn contents(html: &mut Html, input: &ReportInput) {
    html.raw("<nav aria-label=\"Contents\"><ul>");
    for (position, fit) in input.fits.iter().enumerate() {
        html.raw("<li><a href=\"#fit-").count(position as u64 + 1).raw("\">").text(&fit.name()).raw("</a></li>");
    }
    if input.comparison.is_some() {
        html.raw("<li><a href=\"#comparison\">Between datasets</a></li>");
    }
    if !input.inputs.is_empty() {
        html.raw("<li><a href=\"#inputs\">Inputs</a></li>");
    }
    html.raw("<li><a href=\"#terms\">Terms</a></li></ul></nav>\n");
}

/// Plots beside each other; those that are too wide for half the page take all of it.
fn figures(html: &mut Html, id: &str, scenes: impl IntoIterator<Item = Option<Scene>>) {
    html.raw("<div class=\"figures\">\n");
    for (position, scene) in scenes.into_iter().flatten().enumerate() {
        html.raw(if scene.width > 620.0 { "<figure class=\"wide\">" } else { "<figure>" });
        html.scene(&scene, &format!("{id}-plot-{}", position + 1)).raw("</figure>\n");
    }
    html.raw("</div>\n");
}

fn inputs(html: &mut Html, files: &[InputFile]) {
    html.raw("<section id=\"inputs\"><h2>Inputs</h2>\n<div class=\"scroll\"><table><thead><tr>");
    html.raw("<th class=\"name\" scope=\"col\">Artifact or file</th><th class=\"name\" scope=\"col\">Version</th>");
    html.raw("<th scope=\"col\">Size</th><th class=\"name\" scope=\"col\">Digest</th>");
    html.raw("<th class=\"name\" scope=\"col\">SHA-256</th><th class=\"name\" scope=\"col\">Bytes</th></tr></thead><tbody>\n");
    for file in files {
        html.raw("<tr><td class=\"name\">").text(&file.reference).raw("</td><td class=\"name\">").text(&file.version);
        html.raw("</td><td>").text(&file.size.map_or_else(|| number::NONE.to_owned(), number::bytes));
        html.raw("</td><td class=\"name\"><code>").text(&file.digest);
        html.raw("</code></td><td class=\"name\"><code>").text(&file.sha256).raw("</code></td><td class=\"name\">");
        html.raw(match file.verified {
            Verified::Whole => "<span class=\"yes\">✓ verified</span>",
            Verified::Partly => "<span class=\"quiet\">partly verified</span>",
            Verified::No => "<span class=\"no\">not verified</span>",
        });
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div></section>\n");
}

fn notes(html: &mut Html, notes: &[Note]) {
    html.raw("<ul class=\"notes\">");
    for note in notes {
        html.raw("<li>");
        if !note.subject.is_empty() {
            html.raw("<code>").text(&note.subject).raw("</code> ");
        }
        html.raw("<span class=\"quiet\">").text(&note.text).raw("</span></li>");
    }
    html.raw("</ul>\n");
}

const TERMS: &str = "<section id=\"terms\"><details><summary>Terms</summary><dl class=\"terms\">\
<dt>Task vector</dt><dd>Fine-tuned weights minus pretrained weights, one for each seed.</dd>\
<dt>Total variance</dt><dd>Sum of the variances of a layer's parameters over the seeds (divisor n − 1): the trace of their \
covariance, and the sum of all explained variances.</dd>\
<dt>Explained variance ratio</dt><dd>Share of the total variance that lies along a principal component of the centred task \
vectors.</dd>\
<dt>Effective rank</dt><dd>Exponential of the entropy of the ratios: how many components of equal size would be as spread \
out.</dd>\
<dt>k90, k95, k99</dt><dd>Fewest components that together explain 90, 95 or 99 % of the variance.</dd>\
<dt>1st ±</dt><dd>Standard error of the first ratio by the jackknife: how much it changes when one seed is left out.</dd>\
<dt>Sign conflict</dt><dd>Share of the parameters that some task vectors raise and others lower; then the same once each \
task vector keeps only its largest fifth.</dd>\
<dt>Mass</dt><dd>Share of the squared norm that the largest parameters hold.</dd>\
<dt>STI</dt><dd>Singular task interference: how much the singular vectors of the task vectors of a matrix overlap, weighted \
by their singular values; 0 when they share no direction.</dd>\
<dt>Random directions</dt><dd>What the ratios would be if the task vectors kept their norms and pointed anywhere.</dd>\
<dt>Partly verified</dt><dd>Only the bytes of these layers were fetched. They agree with the CRC-32 in the file itself; \
the digest of the artifact, which covers whole files, could not be compared.</dd>\
<dt>Principal angles</dt><dd>Angles between the subspaces that the seeds of two datasets span, smallest first.</dd>\
<dt>Overlap</dt><dd>Mean of the squared cosines of the principal angles: 1 when the smaller subspace lies in the larger, 0 \
when they are orthogonal.</dd>\
<dt>Between and within datasets</dt><dd>The squared deviations of all task vectors from their common mean, split into those \
of the datasets' means and those of the seeds around them.</dd>\
</dl></details></section>\n";

#[cfg(test)]
mod tests;
