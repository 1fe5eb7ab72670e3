//! Node ids: what GraphQL calls `ID!`. Opaque to clients, but standard base64, because the official SDK turns the ids of
//! artifacts into hex for `wandb-artifact://` references. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fault::Fault;

/// `base64("<kind>:<row>")`.
pub(super) fn encode(kind: &str, row: i64) -> String {
    STANDARD.encode(format!("{kind}:{row}"))
}

/// The row number in an id of this kind.
pub(super) fn decode(kind: &'static str, id: &str) -> Result<i64, Fault> {
    let absent = || Fault::not_found(kind, id);
    let bytes = STANDARD.decode(id).map_err(|_| absent())?;
    let text = String::from_utf8(bytes).map_err(|_| absent())?;
    let (found, row) = text.split_once(':').ok_or_else(absent)?;
    if found != kind {
        return Err(absent());
    }
    row.parse().map_err(|_| absent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_other_kinds_are_refused() {
        assert_eq!(encode("Artifact", 104), "QXJ0aWZhY3Q6MTA0");
        assert_eq!(decode("Artifact", "QXJ0aWZhY3Q6MTA0").unwrap(), 104);
        assert!(decode("Run", "QXJ0aWZhY3Q6MTA0").is_err());
        assert!(decode("Artifact", "%%%").is_err());
    }
}
