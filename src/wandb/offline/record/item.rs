//! What messages are made of: items of a key and a value, and times.

use prost::{Message, Oneof};

/// The well-known type of protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// `ConfigItem`, `SummaryItem`, `HistoryItem`, `StatsItem`: a key or a path of keys, and a value as JSON text in which
/// `NaN` and the infinities may stand bare. Version 0.31 may write the values of rows typed instead.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(oneof = "Typed", tags = "3, 4, 5, 6, 7, 8")]
    pub(crate) typed: Option<Typed>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Typed {
    /// An enumeration of one member, `NULL_VALUE`.
    #[prost(int32, tag = "3")]
    None(i32),
    #[prost(bool, tag = "4")]
    Boolean(bool),
    #[prost(sint64, tag = "5")]
    Integer(i64),
    #[prost(double, tag = "6")]
    Number(f64),
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(string, tag = "8")]
    Json(String),
}

impl Item {
    /// An item under one key.
    pub(crate) fn new(key: impl Into<String>, value_json: impl Into<String>) -> Self {
        Self { key: key.into(), value_json: value_json.into(), ..Self::default() }
    }

    /// The path of keys.
    pub(crate) fn path(&self) -> Vec<&str> {
        match self.nested_key.as_slice() {
            [] => vec![self.key.as_str()],
            nested => nested.iter().map(String::as_str).collect(),
        }
    }

    /// The value as JSON text, however it was written.
    pub(crate) fn json(&self) -> String {
        let Some(typed) = &self.typed else { return self.value_json.clone() };
        match typed {
            Typed::None(_) => "null".to_owned(),
            Typed::Boolean(truth) => truth.to_string(),
            Typed::Integer(number) => number.to_string(),
            Typed::Number(number) if number.is_nan() => "NaN".to_owned(),
            Typed::Number(number) if number.is_infinite() && *number > 0.0 => "Infinity".to_owned(),
            Typed::Number(number) if number.is_infinite() => "-Infinity".to_owned(),
            Typed::Number(number) => serde_json::Value::from(*number).to_string(),
            Typed::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Typed::Json(text) => text.clone(),
        }
    }
}

impl Timestamp {
    /// Seconds since 1970.
    pub(crate) fn seconds_f64(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }

    /// Seconds since another time, exact to the nanosecond.
    pub(crate) fn since(self, earlier: Self) -> f64 {
        let nanos = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        (nanos(self) - nanos(earlier)) as f64 / 1e9
    }
}
