//! Numbers as people read them.
//!
//! Owns rounding and signs for plots and pages; exact values go to tables and attributes instead. A value that is not
//! finite reads as an em dash. Pure.

/// What stands where there is no number.
pub(crate) const NONE: &str = "—";

/// Three significant digits; a power of ten where plain digits would hide the size: `0.0123`, `1.23×10⁻⁷`, `45,200`.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let (mantissa, exponent) = scientific(value, 2);
    match exponent {
        -3..=2 => trim(&minus(&format!("{value:.*}", usize::try_from(2 - exponent).unwrap_or(0)))),
        3..=5 => minus(&grouped_digits(&format!("{:.0}", rounded(value, exponent - 2)))),
        _ => format!("{}×10{}", trim(&minus(&mantissa)), superscript(exponent)),
    }
}

/// A share as percent: `12.3 %`, `0.04 %`, `100 %`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return NONE.to_owned();
    }
    let value = share * 100.0;
    let digits = match value.abs() {
        0.0 => 0,
        size if size < 0.01 => return format!("{} %", short(value)),
        size if size < 1.0 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{} %", trim(&minus(&format!("{value:.digits$}"))))
}

/// A whole number with its thousands apart: `111,792,129`.
pub(crate) fn count(value: u64) -> String {
    grouped_digits(&value.to_string())
}

/// A size in bytes, in decimal units as disks are sold: `447 MB`.
pub(crate) fn bytes(value: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{value} {name}") } else { format!("{} {name}", short(size)) }
}

/// A large count in three digits: `112 M`, `393 k`, `42`.
pub(crate) fn compact(value: u64) -> String {
    let (divisor, unit) = match value {
        0..1_000 => return value.to_string(),
        1_000..999_500 => (1e3, "k"),
        999_500..999_500_000 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    format!("{} {unit}", short(value as f64 / divisor))
}

/// A tick of a logarithmic axis: `10⁻⁶` for powers of ten, [`short`] between them and near one.
pub(crate) fn power(value: f64) -> String {
    let exponent = value.abs().log10().round();
    let is_power = value > 0.0 && (value / 10f64.powf(exponent) - 1.0).abs() < 1e-9;
    if !is_power || exponent.abs() < 3.0 {
        return short(value);
    }
    format!("10{}", superscript(exponent as i32))
}

/// The value's digits with one before the point, and the exponent of ten.
fn scientific(value: f64, digits: usize) -> (String, i32) {
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

fn rounded(value: f64, exponent: i32) -> f64 {
    let unit = 10f64.powi(exponent);
    (value / unit).round() * unit
}

fn superscript(exponent: i32) -> String {
    let raised = |digit| match digit {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        _ => '⁹',
    };
    exponent.to_string().chars().map(raised).collect()
}

fn minus(text: &str) -> String {
    text.replace('-', "−")
}

/// Without zeros at the end of a fraction.
fn trim(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

fn grouped_digits(text: &str) -> String {
    let digits = text.trim_start_matches('-');
    let mut grouped = String::with_capacity(text.len() + text.len() / 3);
    if digits.len() < text.len() {
        grouped.push('-');
    }
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shorts = [0.0, 1.0, -0.25, 0.012_345, 0.000_999_9, 1.234e-7, 999.6, 45_231.0, 1.5e6, -2e-12, f64::NAN];
        let expected =
            ["0", "1", "−0.25", "0.0123", "0.001", "1.23×10⁻⁷", "1,000", "45,200", "1.5×10⁶", "−2×10⁻¹²", "—"];
        assert_eq!(shorts.map(short), expected);
        let shares = [0.0, 1.0, 0.1234, 0.000_4, 0.000_001_234, 0.9996, f64::INFINITY];
        assert_eq!(shares.map(percent), ["0 %", "100 %", "12.3 %", "0.04 %", "1.23×10⁻⁴ %", "100 %", "—"]);
        assert_eq!([0, 999, 1000, 111_792_129].map(count), ["0", "999", "1,000", "111,792,129"]);
        assert_eq!([0, 999, 1000, 447_168_516].map(bytes), ["0 B", "999 B", "1 kB", "447 MB"]);
        assert_eq!([0, 999, 393_216, 999_500, 111_792_129].map(compact), ["0", "999", "393 k", "1 M", "112 M"]);
        assert_eq!([1e-6, 2e-6, 0.01, 1.0, 100.0, 1e4].map(power), ["10⁻⁶", "2×10⁻⁶", "0.01", "1", "100", "10⁴"]);
    }
}
