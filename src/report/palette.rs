//! The colours of plots and pages, for light and dark surfaces.
//!
//! Owns what each role looks like; marks name a role, never a colour, so one scene serves both themes. Categories keep at
//! least 0.11 apart in OKLab under simulated protanopia, deuteranopia and tritanopia (Machado et al. 2009, severity 1)
//! and reach a contrast of 3:1 on their surface. Pure.

/// Light or dark surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Theme {
    Light,
    Dark,
}

/// The role of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// What plots are drawn on.
    Surface,
    /// Text and emphasised lines.
    Text,
    /// Secondary text, axis labels.
    Muted,
    /// Grid lines.
    Grid,
    /// Axis lines and the lines of layers in the background.
    Axis,
    /// A cell without a value.
    Missing,
    /// Text on the strong end of a colour scale.
    OnStrong,
    /// A category, counted from 0; after [`SERIES`] the colours start again.
    Series(usize),
    /// A step of the scale from little to much, 0 to [`SEQUENTIAL_STEPS`] − 1.
    Sequential(usize),
    /// A step of the scale from negative over zero to positive, 0 to [`DIVERGING_STEPS`] − 1; the middle is zero.
    Diverging(usize),
}

/// Number of distinct categories.
pub const SERIES: usize = 5;
/// Steps from little to much.
pub const SEQUENTIAL_STEPS: usize = 32;
/// Steps from negative to positive; odd, so that zero has its own.
pub const DIVERGING_STEPS: usize = 33;

const SERIES_LIGHT: [u32; SERIES] = [0x001d_3bb6, 0x00e6_6a09, 0x001c_8f82, 0x0075_1145, 0x0077_5703];
const SERIES_DARK: [u32; SERIES] = [0x0066_96f5, 0x00d4_6d40, 0x008d_fedb, 0x00fb_96b4, 0x00f6_d757];
const SEQUENTIAL_LIGHT: [u32; 5] = [0x00ea_f1fa, 0x009c_c3ec, 0x003f_84cf, 0x001b_4b98, 0x000c_2456];
const SEQUENTIAL_DARK: [u32; 5] = [0x001a_2940, 0x0023_5290, 0x003f_8adf, 0x0093_c8fb, 0x00ee_f6ff];
const DIVERGING_LIGHT: [u32; 5] = [0x009a_4500, 0x00dd_8d42, 0x00f4_f4f2, 0x007f_b0e3, 0x001b_4b98];
const DIVERGING_DARK: [u32; 5] = [0x00ff_b873, 0x0090_4a14, 0x0025_2a32, 0x002f_6bb5, 0x009c_cbff];

impl Ink {
    /// A step of the sequential scale for a share between 0 and 1; outside is clamped.
    pub fn sequential(share: f64) -> Self {
        Self::Sequential(step(share, SEQUENTIAL_STEPS))
    }

    /// A step of the diverging scale for a value between −1 and 1; outside is clamped.
    pub fn diverging(value: f64) -> Self {
        Self::Diverging(step((value + 1.0) / 2.0, DIVERGING_STEPS))
    }

    /// The ink for text on a surface of this ink. The scales are made so that one answer fits both themes.
    pub fn text_on(self) -> Self {
        match self {
            Self::Sequential(step) if step >= SEQUENTIAL_STEPS / 2 - 1 => Self::OnStrong,
            Self::Diverging(step) if step.abs_diff(DIVERGING_STEPS / 2) >= 11 => Self::OnStrong,
            _ => Self::Text,
        }
    }

    /// Red, green and blue on this theme's surface.
    pub fn rgb(self, theme: Theme) -> [u8; 3] {
        let light = theme == Theme::Light;
        let pick = |on_light: u32, on_dark: u32| channels(if light { on_light } else { on_dark });
        match self {
            Self::Surface => pick(0x00ff_ffff, 0x0012_161c),
            Self::Text => pick(0x0016_1b22, 0x00e9_edf2),
            Self::Muted => pick(0x0057_606c, 0x009b_a6b4),
            Self::Grid => pick(0x00e6_e9ee, 0x0026_2c35),
            Self::Axis => pick(0x00b4_bcc7, 0x004d_5764),
            Self::Missing => pick(0x00f3_f4f6, 0x001b_2028),
            Self::OnStrong => pick(0x00ff_ffff, 0x000b_0f14),
            Self::Series(series) => {
                let colours = if light { SERIES_LIGHT } else { SERIES_DARK };
                channels(colours.get(series % SERIES).copied().unwrap_or_default())
            }
            Self::Sequential(step) => {
                along(if light { SEQUENTIAL_LIGHT } else { SEQUENTIAL_DARK }, step, SEQUENTIAL_STEPS)
            }
            Self::Diverging(step) => along(if light { DIVERGING_LIGHT } else { DIVERGING_DARK }, step, DIVERGING_STEPS),
        }
    }

    /// The colour as `#rrggbb`.
    pub fn hex(self, theme: Theme) -> String {
        let [red, green, blue] = self.rgb(theme);
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// Name of the CSS variable that holds the colour on a page, `--` included.
    pub fn variable(self) -> String {
        match self {
            Self::Surface => "--surface".to_owned(),
            Self::Text => "--text".to_owned(),
            Self::Muted => "--muted".to_owned(),
            Self::Grid => "--grid".to_owned(),
            Self::Axis => "--axis".to_owned(),
            Self::Missing => "--missing".to_owned(),
            Self::OnStrong => "--on-strong".to_owned(),
            Self::Series(series) => format!("--s{}", series % SERIES),
            Self::Sequential(step) => format!("--q{step}"),
            Self::Diverging(step) => format!("--d{step}"),
        }
    }
}

/// Every colour of a theme as CSS variable declarations.
pub fn declarations(theme: Theme) -> String {
    let roles = [Ink::Surface, Ink::Text, Ink::Muted, Ink::Grid, Ink::Axis, Ink::Missing, Ink::OnStrong];
    let inks = (roles.into_iter())
        .chain((0..SERIES).map(Ink::Series))
        .chain((0..SEQUENTIAL_STEPS).map(Ink::Sequential))
        .chain((0..DIVERGING_STEPS).map(Ink::Diverging));
    inks.map(|ink| format!("{}:{};", ink.variable(), ink.hex(theme))).collect()
}

fn step(share: f64, steps: usize) -> usize {
    // A share that is not a number lands on 0 by the saturating cast.
    ((share.clamp(0.0, 1.0) * (steps - 1) as f64).round() as usize).min(steps - 1)
}

fn channels(rgb: u32) -> [u8; 3] {
    let [_, red, green, blue] = rgb.to_be_bytes();
    [red, green, blue]
}

/// The colour at a step of a scale through five anchors, interpolated in OKLab so that equal steps look equal.
fn along(anchors: [u32; 5], step: usize, steps: usize) -> [u8; 3] {
    let place = step.min(steps - 1) as f64 / (steps - 1) as f64 * 4.0;
    let at = (place.floor() as usize).min(3);
    let share = place - at as f64;
    let anchor = |index: usize| oklab(channels(anchors.get(index).copied().unwrap_or_default()));
    let (from, to) = (anchor(at), anchor(at + 1));
    srgb(std::array::from_fn(|axis| from[axis] + (to[axis] - from[axis]) * share))
}

type Rows = [[f64; 3]; 3];

/// Linear sRGB to cone response, and cone response to OKLab (Ottosson 2020, "A perceptual color space for image processing").
const TO_CONES: Rows = [
    [0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9],
    [0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6],
    [0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5],
];
const TO_LAB: Rows = [
    [0.210_454_255_3, 0.793_617_785_0, -0.004_072_046_8],
    [1.977_998_495_1, -2.428_592_205_0, 0.450_593_709_9],
    [0.025_904_037_1, 0.782_771_766_2, -0.808_675_766_0],
];
const FROM_LAB: Rows = [
    [1.0, 0.396_337_777_4, 0.215_803_757_3],
    [1.0, -0.105_561_345_8, -0.063_854_172_8],
    [1.0, -0.089_484_177_5, -1.291_485_548_0],
];
const FROM_CONES: Rows = [
    [4.076_741_662_1, -3.307_711_591_3, 0.230_969_929_2],
    [-1.268_438_004_6, 2.609_757_401_1, -0.341_319_396_5],
    [-0.004_196_086_3, -0.703_418_614_7, 1.707_614_701_0],
];

fn times(matrix: Rows, vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}

fn oklab(rgb: [u8; 3]) -> [f64; 3] {
    let linear = rgb.map(|channel| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    times(TO_LAB, times(TO_CONES, linear).map(f64::cbrt))
}

fn srgb(lab: [f64; 3]) -> [u8; 3] {
    times(FROM_CONES, times(FROM_LAB, lab).map(|cone| cone.powi(3))).map(|value| {
        let value = value.clamp(0.0, 1.0);
        let encoded = if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(ink: Ink, theme: Theme) -> f64 {
        let linear = ink.rgb(theme).map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    /// WCAG 2 contrast ratio.
    fn contrast(a: Ink, b: Ink, theme: Theme) -> f64 {
        let (a, b) = (luminance(a, theme), luminance(b, theme));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_on_every_surface() {
        for theme in [Theme::Light, Theme::Dark] {
            for ink in [Ink::Text, Ink::Muted] {
                assert!(contrast(ink, Ink::Surface, theme) > 4.5, "{ink:?} on {theme:?}");
            }
            for series in 0..SERIES {
                assert!(contrast(Ink::Series(series), Ink::Surface, theme) > 3.0, "{series} on {theme:?}");
            }
            let scales = (0..SEQUENTIAL_STEPS).map(Ink::Sequential).chain((0..DIVERGING_STEPS).map(Ink::Diverging));
            for ink in scales {
                let contrast = contrast(ink.text_on(), ink, theme);
                assert!(contrast > 3.2, "{:?} on {ink:?}, {theme:?}: {contrast}", ink.text_on());
            }
        }
    }

    #[test]
    fn categories_differ_for_every_eye() {
        // Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
        let eyes: [Rows; 4] = [
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        ];
        for (theme, eye) in [Theme::Light, Theme::Dark].into_iter().flat_map(|theme| eyes.map(|eye| (theme, eye))) {
            let seen: Vec<_> = (0..SERIES)
                .map(|series| {
                    let linear = Ink::Series(series).rgb(theme).map(|channel| {
                        let value = f64::from(channel) / 255.0;
                        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
                    });
                    let cones = times(TO_CONES, times(eye, linear).map(|value| value.clamp(0.0, 1.0)));
                    times(TO_LAB, cones.map(f64::cbrt))
                })
                .collect();
            for (first, a) in seen.iter().enumerate() {
                for (second, b) in seen.iter().enumerate().skip(first + 1) {
                    let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    assert!(distance > 0.11, "{first} and {second} on {theme:?}: {distance}");
                }
            }
        }
    }

    #[test]
    fn scales_pass_through_their_anchors_and_grow_evenly() {
        assert_eq!(Ink::sequential(0.0).hex(Theme::Light), "#eaf1fa");
        assert_eq!(Ink::sequential(1.0).hex(Theme::Dark), "#eef6ff");
        assert_eq!(Ink::diverging(0.0).hex(Theme::Light), "#f4f4f2");
        assert_eq!(Ink::sequential(f64::NAN), Ink::Sequential(0));
        for (theme, sign) in [(Theme::Light, -1.0), (Theme::Dark, 1.0)] {
            let lightness = |step| oklab(Ink::Sequential(step).rgb(theme))[0] * sign;
            assert!((1..SEQUENTIAL_STEPS).all(|step| lightness(step) > lightness(step - 1)), "{theme:?}");
        }
    }

    #[test]
    fn a_page_declares_every_colour_once() {
        let declared = declarations(Theme::Dark);
        assert_eq!(declared.matches(';').count(), 7 + SERIES + SEQUENTIAL_STEPS + DIVERGING_STEPS);
        assert!(declared.contains("--s0:#6696f5;") && declared.contains("--d16:"));
    }
}
