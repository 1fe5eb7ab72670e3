//! Tables that can be searched and sorted: a cell shows a number for people and carries the exact one in `data-value`.

use super::super::number;
use super::html::Html;

/// One cell.
pub(super) enum Cell<'a> {
    Name(&'a str),
    /// A name that is short: its column is as narrow as it can be.
    Word(&'a str),
    Whole(Option<u64>),
    Number(Option<f64>, fn(f64) -> String),
}

/// A column: names to the left, numbers to the right.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) is_name: bool,
}

/// Columns of names, then columns of numbers.
pub(super) fn columns(names: &[&'static str], numbers: &[&'static str]) -> Vec<Column> {
    let names = names.iter().map(|name| Column { name, is_name: true });
    names.chain(numbers.iter().map(|name| Column { name, is_name: false })).collect()
}

/// A table with a box to search it; `noun` is what its rows are.
pub(super) fn write<'a>(
    html: &mut Html,
    noun: &'static str,
    columns: &[Column],
    rows: impl IntoIterator<Item = Vec<Cell<'a>>>,
) {
    open(html, noun);
    for column in columns {
        header(html, column);
    }
    html.raw("</tr></thead><tbody>\n");
    for row in rows {
        html.raw("<tr>");
        row.iter().for_each(|cell| write_cell(html, cell));
        html.raw("</tr>\n");
    }
    close(html);
}

/// Up to the first header.
pub(super) fn open(html: &mut Html, noun: &'static str) {
    html.raw("<div class=\"layers\" data-noun=\"").raw(noun).raw("\"><div class=\"tools\"><input type=\"search\" ");
    html.raw("placeholder=\"Search ").raw(noun).raw("\" aria-label=\"Search ").raw(noun);
    html.raw("\"><output class=\"quiet small\"></output></div><div class=\"scroll\"><table><thead><tr>");
}

/// Behind the last row.
pub(super) fn close(html: &mut Html) {
    html.raw("</tbody></table></div></div>\n");
}

pub(super) fn header(html: &mut Html, column: &Column) {
    html.raw(if column.is_name { "<th class=\"name\" scope=\"col\">" } else { "<th class=\"number\" scope=\"col\">" });
    html.raw("<button type=\"button\">").raw(column.name).raw("</button></th>");
}

pub(super) fn write_cell(html: &mut Html, cell: &Cell<'_>) {
    match *cell {
        Cell::Name(name) => {
            html.raw("<td class=\"name\">");
            // Where a name is too long it breaks behind a dot.
            for part in name.split_inclusive('.') {
                html.text(part).raw(if part.ends_with('.') { "<wbr>" } else { "" });
            }
            &mut *html
        }
        Cell::Word(name) => html.raw("<td class=\"name word\">").text(name),
        Cell::Whole(Some(value)) => {
            html.raw("<td class=\"number\" data-value=\"").count(value).raw("\">").text(&number::count(value))
        }
        Cell::Number(Some(value), format) if value.is_finite() => {
            html.raw("<td class=\"number\" data-value=\"").exact(value).raw("\">").text(&format(value))
        }
        Cell::Whole(None) | Cell::Number(..) => html.raw("<td class=\"number\">—"),
    };
    html.raw("</td>");
}
