//! Custom charts: Vega-Lite specifications that panels of runs name. Made once, never changed.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::{OptionalExtension as _, params};
use serde::Deserialize;

use super::plain::Payload;
use super::{Ask, Fault};
use crate::server::clock::now;
use crate::server::{ids, row_json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chart {
    entity: String,
    name: String,
    display_name: String,
    #[serde(rename = "type")]
    kind: String,
    access: String,
    spec: String,
}

/// `Mutation.createCustomChart`; a name that is taken is refused, as by the hosted service.
pub(super) fn create(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let chart: Chart = ask.input()?;
    if !row_json::parse(&chart.spec).is_ok_and(|spec| spec.is_object()) {
        return Err(Fault::invalid("the specification of the chart is not a JSON object"));
    }
    let id = ask.services().db.write(|db| {
        let sql = "SELECT 1 FROM chart WHERE entity = ?1 AND name = ?2";
        if db.query_row(sql, params![chart.entity, chart.name], |_| Ok(())).optional()?.is_some() {
            return Err(Fault::conflict(format!("a chart `{}/{}` exists already", chart.entity, chart.name)));
        }
        let sql = "INSERT INTO chart (entity, name, display_name, kind, access, spec, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let Chart { entity, name, display_name, kind, access, spec } = &chart;
        db.execute(sql, params![entity, name, display_name, kind, access, spec, now()])?;
        Ok(db.last_insert_rowid())
    })?;
    let made = Payload::new("CustomChart")
        .leaf("id", ids::encode("CustomChart", id))
        .leaf("name", chart.name)
        .leaf("displayName", chart.display_name)
        .leaf("type", chart.kind)
        .leaf("access", chart.access)
        .leaf("spec", chart.spec);
    Ok(ask.context.object(Payload::new("CreateCustomChartPayload").object("chart", made)))
}
