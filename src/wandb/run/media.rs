//! Media of a run: images, pages and histograms, as rows refer to them. Shapes are pure; keeping a file is file I/O.
//!
//! Facts from `wandb/sdk/data_types/{image,html,histogram}.py`: a file is `media/<kind>/<key>_<step>_<first 20 digits of its
//! SHA-256>.<ending>`, a row has an object with its `_type`, a list has at most 108 images, a histogram 512 bins.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::digest::Sha256;

use super::super::error::WandbError;
use super::Run;

/// Most images in one list.
const LIST: usize = 108;
/// Most bins of a histogram.
const BINS: usize = 512;

/// A picture in PNG, with its size as the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    bytes: Bytes,
    width: u32,
    height: u32,
    caption: Option<String>,
}

impl Image {
    /// A picture from the bytes of a PNG file.
    ///
    /// # Errors
    /// [`WandbError::Option`] for bytes that are no PNG.
    pub fn png(bytes: impl Into<Bytes>) -> Result<Self, WandbError> {
        let bytes = bytes.into();
        let reason = || "the bytes are no PNG file".to_owned();
        let (width, height) =
            png_size(&bytes).ok_or_else(|| WandbError::Option { option: "image", reason: reason() })?;
        Ok(Self { bytes, width, height, caption: None })
    }

    /// Sets the text below it.
    #[must_use]
    pub fn with_caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    fn value(&self, file: Map<String, Value>) -> Value {
        let mut value = Map::from_iter([("_type".to_owned(), "image-file".into())]);
        value.extend(file);
        value.insert("format".to_owned(), "png".into());
        value.insert("width".to_owned(), self.width.into());
        value.insert("height".to_owned(), self.height.into());
        value.extend(self.caption.as_ref().map(|caption| ("caption".to_owned(), caption.as_str().into())));
        value.into()
    }
}

/// Width and height from the header chunk, which comes first.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?)).filter(|(width, height)| *width > 0 && *height > 0)
}

/// How many values fall between which edges.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<f64>,
    edges: Vec<f64>,
}

impl Histogram {
    /// Counts between edges, of which there is one more; edges rise.
    ///
    /// # Errors
    /// [`WandbError::Option`] for other numbers of them, for more than 512 counts, and for edges that do not rise.
    pub fn new(counts: Vec<f64>, edges: Vec<f64>) -> Result<Self, WandbError> {
        let refuse = |reason: String| Err(WandbError::Option { option: "histogram", reason });
        if counts.is_empty() || counts.len() > BINS || edges.len() != counts.len() + 1 {
            return refuse(format!("{} counts and {} edges; at most {BINS} counts", counts.len(), edges.len()));
        }
        let rises = |pair: &[f64]| matches!(pair, [low, high] if low < high);
        if !edges.windows(2).all(rises) || !counts.iter().chain(&edges).all(|number| number.is_finite()) {
            return refuse("its edges do not rise, or a number is not finite".to_owned());
        }
        Ok(Self { counts, edges })
    }

    /// Values in `bins` bins of equal width from the least to the largest, as NumPy has them; what is not finite is left
    /// out. Nothing where there is no value.
    pub fn of(values: &[f64], bins: usize) -> Option<Self> {
        let bins = bins.clamp(1, BINS);
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (mut low, mut high) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
        if low == high {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let width = (high - low) / bins as f64;
        let edges: Vec<f64> = (0..=bins).map(|at| if at == bins { high } else { low + at as f64 * width }).collect();
        let mut counts = vec![0.0; bins];
        for value in finite() {
            // The last bin has its upper edge, too.
            let at = (((value - low) / width) as usize).min(bins - 1);
            if let Some(count) = counts.get_mut(at) {
                *count += 1.0;
            }
        }
        // Values too close together for so many bins, or too far apart for a width.
        Self::new(counts, edges).ok()
    }

    /// What a row has for it.
    pub fn value(&self) -> Value {
        let all = |numbers: &[f64]| numbers.iter().map(|&number| shortest(number)).collect::<Vec<_>>();
        json!({ "_type": "histogram", "values": all(&self.counts), "bins": all(&self.edges) })
    }
}

/// A whole number without a fraction, as the official client sends it on.
fn shortest(number: f64) -> Value {
    let whole = number.fract() == 0.0 && number.abs() < 2f64.powi(53);
    if whole { json!(number as i64) } else { json!(number) }
}

impl Run {
    /// Logs a picture under `key`.
    ///
    /// # Errors
    /// As [`Run::upload_file`] and [`Run::log`].
    pub async fn log_image(&self, key: &str, image: &Image) -> Result<(), WandbError> {
        self.log(self.store_image(key, image).await?).await
    }

    /// Logs pictures as one list under `key`.
    ///
    /// # Errors
    /// [`WandbError::Option`] for none and for more than 108; else as [`Run::log_image`].
    pub async fn log_images(&self, key: &str, images: &[Image]) -> Result<(), WandbError> {
        self.log(self.store_images(key, images).await?).await
    }

    /// Logs an HTML page under `key`. It is kept as it is.
    ///
    /// # Errors
    /// As [`Run::log_image`].
    pub async fn log_html(&self, key: &str, html: impl Into<Bytes>) -> Result<(), WandbError> {
        self.log(self.store_html(key, html).await?).await
    }

    /// Logs a histogram under `key`.
    ///
    /// # Errors
    /// As [`Run::log`].
    pub async fn log_histogram(&self, key: &str, histogram: &Histogram) -> Result<(), WandbError> {
        self.log(Map::from_iter([(key.to_owned(), histogram.value())])).await
    }

    /// Keeps a picture with the run and returns what a row has for it, to be logged together with other values.
    ///
    /// # Errors
    /// As [`Run::upload_file`].
    pub async fn store_image(&self, key: &str, image: &Image) -> Result<Map<String, Value>, WandbError> {
        let file = self.keep_media(("images", "png"), key, image.bytes.clone()).await?;
        Ok(Map::from_iter([(key.to_owned(), image.value(file))]))
    }

    /// As [`Run::store_image`], for a list.
    ///
    /// # Errors
    /// As [`Run::log_images`].
    pub async fn store_images(&self, key: &str, images: &[Image]) -> Result<Map<String, Value>, WandbError> {
        let Some(first) = images.first().filter(|_| images.len() <= LIST) else {
            let reason = format!("{} images where a list has 1 to {LIST}", images.len());
            return Err(WandbError::Option { option: "images", reason });
        };
        let mut paths = Vec::with_capacity(images.len());
        for image in images {
            let file = self.keep_media(("images", "png"), key, image.bytes.clone()).await?;
            paths.extend(file.get("path").cloned());
        }
        let mut value = json!({
            "_type": "images/separated",
            "width": first.width,
            "height": first.height,
            "format": "png",
            "count": images.len(),
            "filenames": paths,
        });
        // As the official client decides it: by the first.
        if let (Some(_), Value::Object(members)) = (&first.caption, &mut value) {
            members.insert("captions".to_owned(), images.iter().map(|image| image.caption.clone()).collect());
        }
        Ok(Map::from_iter([(key.to_owned(), value)]))
    }

    /// As [`Run::store_image`], for an HTML page.
    ///
    /// # Errors
    /// As [`Run::store_image`].
    pub async fn store_html(&self, key: &str, html: impl Into<Bytes>) -> Result<Map<String, Value>, WandbError> {
        let mut value = Map::from_iter([("_type".to_owned(), "html-file".into())]);
        value.extend(self.keep_media(("html", "html"), key, html.into()).await?);
        Ok(Map::from_iter([(key.to_owned(), value.into())]))
    }

    /// Keeps the file of a media value, and what every such value says of it.
    pub(super) async fn keep_media(
        &self,
        (kind, ending): (&str, &str),
        key: &str,
        bytes: Bytes,
    ) -> Result<Map<String, Value>, WandbError> {
        let sha256 = Sha256::of(&bytes).to_hex();
        let step = self.state().step;
        let hash = sha256.get(..20).unwrap_or(&sha256);
        let path = format!("media/{kind}/{}_{step}_{hash}.{ending}", safe_components(key));
        let size = bytes.len();
        self.upload_file(&path, bytes).await?;
        let members = [("sha256", json!(sha256)), ("size", json!(size)), ("path", json!(path))];
        Ok(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// A key as a path: folders stay, components that would leave or mean nothing become underscores.
pub(super) fn safe_components(key: &str) -> String {
    let safe = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.replace(['\\', '\0', ':'], "_"),
    };
    key.trim_start_matches('/').split('/').map(safe).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_say_their_size() {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\0\x07".to_vec();
        let image = Image::png(bytes.clone()).unwrap().with_caption("c");
        assert_eq!((image.width, image.height), (256, 7));
        let file = Map::from_iter([("path".to_owned(), json!("p"))]);
        let expected = r#"{"_type":"image-file","path":"p","format":"png","width":256,"height":7,"caption":"c"}"#;
        assert_eq!(image.value(file).to_string(), expected);
        for cut in 0..bytes.len() {
            assert!(Image::png(bytes[..cut].to_vec()).is_err(), "{cut}");
        }
        bytes[19] = 0;
        bytes[18] = 0;
        assert!(Image::png(bytes).is_err(), "without extent");
    }

    #[test]
    fn histograms_count_as_numpy_does() {
        // numpy.histogram([0, 1, 1, 2, nan], 4), without the nan.
        let histogram = Histogram::of(&[0.0, 1.0, 1.0, 2.0, f64::NAN], 4).unwrap();
        let expected = r#"{"_type":"histogram","values":[1,0,2,1],"bins":[0,0.5,1,1.5,2]}"#;
        assert_eq!(histogram.value().to_string(), expected);
        let flat = Histogram::of(&[3.0, 3.0], 2).unwrap();
        assert_eq!((flat.counts, flat.edges), (vec![0.0, 2.0], vec![2.5, 3.0, 3.5]));
        assert_eq!(Histogram::of(&[f64::INFINITY], 4), None);
        assert_eq!(Histogram::of(&[f64::MIN, f64::MAX], 4), None);
        assert!(Histogram::new(vec![1.0], vec![0.0]).is_err());
        assert!(Histogram::new(vec![1.0; 513], (0..514).map(f64::from).collect()).is_err());
        assert!(Histogram::new(vec![1.0], vec![1.0, 1.0]).is_err());
    }

    #[test]
    fn keys_are_safe_as_paths() {
        assert_eq!(safe_components("/../a/b"), "_/a/b");
        assert_eq!(safe_components("a//./c:d"), "a/_/_/c_d");
    }
}
