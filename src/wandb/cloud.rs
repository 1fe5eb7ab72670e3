//! What it takes to get at buckets: keys, regions, endpoints, under the names that the clouds' own tools read from the
//! environment. Plain values; nothing is read from the environment here.

use std::fmt;

/// Beginnings of names that have a meaning for a cloud.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Settings of the object stores that references lead to, such as `AWS_ACCESS_KEY_ID`. Does not show its values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloudSettings(Vec<(String, String)>);

impl CloudSettings {
    /// Keeps those of the variables that a cloud may know; the others are left out.
    pub fn new<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let known = |(name, _): &(String, String)| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let mut kept: Vec<_> = variables.into_iter().map(|(k, v)| (k.into(), v.into())).filter(known).collect();
        kept.sort();
        Self(kept)
    }

    /// The settings whose name begins with `prefix`, with the name in lower case.
    #[cfg(feature = "cloud")]
    pub(super) fn of<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        let of = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        of.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }

    /// The value of one setting.
    #[cfg(feature = "cloud")]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown_and_strangers_left_out() {
        let settings = CloudSettings::new([("AWS_SECRET_ACCESS_KEY", "secret"), ("HOME", "secret")]);
        assert_eq!(format!("{settings:?}"), "{\"AWS_SECRET_ACCESS_KEY\"}");
    }
}
