use super::super::rows::{GroupRow, LayerRow, Matrix, NullBand, PairAngles, Score, Scores, Spectrum};
use super::*;
use crate::report::between::{JointRow, PairRow};
use crate::report::input::{Comparison, FitSection};

const HOSTILE: &str = "</script><img src=x onerror=\"alert('1')\">&amp;<!--";

/// A report in which everything that can be named is named by an attacker.
fn hostile() -> ReportInput {
    let name = || HOSTILE.to_owned();
    let note = || vec![Note { subject: name(), text: name() }];
    let matrix = || Matrix { labels: vec![name(), name()], values: vec![vec![Some(1.0), Some(0.5)]; 2] };
    let point = Score { label: name(), group: name(), first: 1.0, second: 2.0 };
    let other = Score { group: "b".to_owned(), first: 2.0, ..point.clone() };
    let scores = || Some(Scores { points: vec![point.clone(), other.clone()], ratios: [Some(0.5), None] });
    let layer = LayerRow {
        layer: name(),
        module: name(),
        depth: Some(1),
        parameters: 10,
        total_variance: Some(0.1),
        ..LayerRow::default()
    };
    let fit = FitSection {
        model: name(),
        dataset: name(),
        pretrained: name(),
        seeds: vec![name()],
        groups: vec![GroupRow { grouping: name(), group: name(), layers: 1, row: layer.clone() }],
        layers: vec![layer],
        spectra: vec![Spectrum { layer: name(), ratios: vec![0.75, 0.25] }],
        whole: vec![0.75, 0.25],
        null_band: Some(NullBand { low: vec![0.4, 0.4], high: vec![0.6, 0.6] }),
        cosine: Some(matrix()),
        scores: scores(),
        notes: note(),
    };
    let file = InputFile {
        reference: name(),
        version: name(),
        digest: name(),
        sha256: name(),
        size: Some(1),
        verified: Verified::No,
    };
    let angles = vec![PairAngles { first: name(), second: name(), degrees: vec![10.0] }];
    let named = [name(), name(), name(), name()];
    let [grouping, group, first, second] = named;
    let joint = vec![JointRow { grouping: grouping.clone(), group: group.clone(), ..JointRow::default() }];
    let pairs = vec![PairRow { grouping, group, first, second, overlap: Some(0.25), ..PairRow::default() }];
    ReportInput {
        schema_version: SCHEMA_VERSION,
        title: name(),
        generated: name(),
        inputs: vec![file],
        fits: vec![fit],
        comparison: Some(Comparison {
            angles,
            overlaps: Some(matrix()),
            cosines: Some(matrix()),
            scores: scores(),
            pairs,
            joint,
        }),
        notes: note(),
    }
}

#[test]
fn names_from_outside_are_never_markup() {
    let page = write(&hostile()).unwrap();
    assert!(!page.contains("<img") && !page.contains("<!--") && !page.contains("alert('1')"));
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("</script").count(), 1);
    assert!(page.matches("&lt;/script&gt;&lt;img src=x onerror=&quot;").count() > 20);
}

#[test]
fn the_page_loads_nothing() {
    let page = write(&hostile()).unwrap();
    for outside in ["http://", "https://", "//cdn", "<link rel=\"stylesheet", " src=\"", "@import"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "{outside}");
    }
    let digest = STANDARD.encode(Sha256::digest(SCRIPT));
    assert!(page.contains(&format!("script-src 'sha256-{digest}'")));
    assert!(page.contains(&format!("<script>{SCRIPT}</script>")), "the hash is of what stands there");
}

#[test]
fn numbers_are_exact_behind_what_is_shown() {
    let mut input = hostile();
    input.fits[0].layers[0].total_variance = Some(0.1 + 0.2);
    input.fits[0].layers[0].variance_per_parameter = Some(f64::NAN);
    let page = write(&input).unwrap();
    assert!(page.contains("data-value=\"0.30000000000000004\">0.3</td><td class=\"number\">—</td>"));
    assert!(page.contains("not verified") && page.contains("0 of 1"));
}

#[test]
fn interference_has_columns_where_it_was_measured() {
    let mut input = hostile();
    let rows = |input: &ReportInput| -> (Vec<String>, Vec<Vec<String>>) {
        let page = write(input).unwrap();
        let table = page.split("data-noun=\"layers\"").nth(1).unwrap().split("</table>").next().unwrap().to_owned();
        let (head, body) = table.split_once("<tbody>").unwrap();
        let text = |cell: &str| cell.split('<').next().unwrap().rsplit('>').next().unwrap().to_owned();
        let names = head.split("<th ").skip(1).map(|th| {
            let inner = th.split_once('>').unwrap().1.trim_start_matches("<button type=\"button\">");
            inner.split('<').next().unwrap().to_owned()
        });
        let cells = body
            .split("<tr>")
            .skip(1)
            .map(|row| row.split("<td").skip(1).map(|td| text(td.split_once('>').unwrap().1)).collect());
        (names.collect(), cells.collect())
    };
    let (names, cells) = rows(&input);
    assert!(!names.iter().any(|name| name == "Sign conflict" || name == "STI"), "{names:?}");
    assert_eq!(cells[0].len(), names.len());
    input.fits[0].layers[0].sign_conflict = Some(0.25);
    input.fits[0].layers[0].mass_top_10 = Some(0.5);
    let (names, cells) = rows(&input);
    assert_eq!(names[names.len() - 4..], ["Sign conflict", "of top 20 %", "Mass in top 1 %", "in top 10 %"]);
    assert_eq!(cells[0][names.len() - 4..], ["25 %", "—", "—", "50 %"]);
    input.fits[0].layers[0].singular_interference = Some(12.5);
    input.fits[0].groups[0].row.sign_conflict = Some(0.125);
    let (names, cells) = rows(&input);
    assert_eq!((names.last().unwrap().as_str(), cells[0].last().unwrap().as_str()), ("STI", "12.5"));
    assert_eq!(cells[0].len(), names.len());
    let page = write(&input).unwrap();
    assert!(page.contains("Sign conflict</dt>") && page.contains("data-value=\"0.125\">12.5 %"));
}

#[test]
fn the_smallest_report_is_a_page_and_its_json_reads_back() {
    let empty = ReportInput {
        schema_version: SCHEMA_VERSION,
        title: "Empty".to_owned(),
        generated: String::new(),
        inputs: Vec::new(),
        fits: vec![FitSection::default()],
        comparison: None,
        notes: Vec::new(),
    };
    assert!(write(&empty).unwrap().ends_with("</html>\n"));
    for input in [empty.clone(), hostile()] {
        let json = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<ReportInput>(&json).unwrap(), input);
    }
    let newer = ReportInput { schema_version: SCHEMA_VERSION + 1, ..empty };
    assert!(matches!(write(&newer), Err(ReportError::SchemaVersion { found: 2, known: 1 })));
}
