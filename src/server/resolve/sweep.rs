//! Sweeps and their agents: making, changing, reading, and the heartbeat that hands out runs.

use apollo_compiler::resolvers::ResolvedValue;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::plain::{Page, Payload};
use super::project::{ProjectNode, entity_or_default, project_or_default};
use super::run::RunNode;
use super::run_write::run_id;
use super::{Ask, Fault, Resolve};
use crate::server::auth::random;
use crate::server::clock::{iso, now};
use crate::server::filter::lookup;
use crate::server::rows::project::Project;
use crate::server::rows::run::Run;
use crate::server::rows::sweep::{Agent, Sweep};
use crate::server::sweep_plan::Plan;
use crate::server::{ids, row_json};

/// An agent that was silent for so long is gone. Agents send a heartbeat every five seconds.
const SILENCE: i64 = 60 * 1000;

/// One sweep.
pub(super) struct SweepNode(pub(super) Sweep);

impl Resolve for SweepNode {
    fn type_name(&self) -> &str {
        "Sweep"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        let plan = || Plan::parse(&this.config);
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("Sweep", this.id)),
            "name" => ResolvedValue::leaf(this.name.as_str()),
            "displayName" => ResolvedValue::leaf(this.display_name.clone()),
            "description" => ResolvedValue::leaf(this.description.clone()),
            "state" => ResolvedValue::leaf(this.state.as_str()),
            "config" => ResolvedValue::leaf(this.config.as_str()),
            "method" => ResolvedValue::leaf(plan()?.method()),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "updatedAt" => ResolvedValue::leaf(iso(this.updated_at)),
            "heartbeatAt" => ResolvedValue::leaf(iso(this.heartbeat_at)),
            "earlyStopJobRunning" => ResolvedValue::leaf(false),
            "controller" | "scheduler" => ResolvedValue::null(),
            "controllerRunName" => ResolvedValue::leaf(""),
            "project" => ask.context.object(ProjectNode(Project::get(db, this.project_id)?)),
            "runCount" => ResolvedValue::leaf(self.runs(db)?.len() as i64),
            "runCountExpected" => ResolvedValue::leaf(plan()?.expected().map(|count| count as i64)),
            "bestLoss" => ResolvedValue::leaf(self.best(db, &plan()?)?),
            "runs" => {
                let runs = self.runs(db)?.into_iter().map(RunNode).collect();
                ask.context.object(Page::cut("RunConnection", ask, runs)?)
            }
            "agents" => {
                let agents = this.agents(db)?.into_iter().map(AgentNode).collect();
                ask.context.object(Page::cut("AgentConnection", ask, agents)?)
            }
            "agent" => {
                let name = ask.required("agentName")?;
                let found = this.agents(db)?.into_iter().map(AgentNode).find(|agent| agent.name() == name);
                ask.context.nullable(found)
            }
            _ => return ask.unresolved("Sweep"),
        })
    }
}

impl SweepNode {
    fn runs(&self, db: &Connection) -> Result<Vec<Run>, Fault> {
        let all = Run::list(db, self.0.project_id)?;
        Ok(all.into_iter().filter(|run| run.sweep_id == Some(self.0.id)).collect())
    }

    /// The best value of the metric so far.
    fn best(&self, db: &Connection, plan: &Plan) -> Result<Option<f64>, Fault> {
        let Some(metric) = &plan.metric else { return Ok(None) };
        let values = self.runs(db)?.into_iter().filter_map(|run| {
            let summary = row_json::parse(&run.summary).ok()?;
            lookup(&summary, &metric.name)?.as_f64()
        });
        let maximize = metric.goal.as_deref() == Some("maximize");
        Ok(values.reduce(|best, value| if maximize { best.max(value) } else { best.min(value) }))
    }
}

/// One agent.
pub(super) struct AgentNode(Agent);

impl AgentNode {
    fn name(&self) -> String {
        format!("agent-{}", self.0.id)
    }
}

impl Resolve for AgentNode {
    fn type_name(&self) -> &str {
        "Agent"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("Agent", this.id)),
            "name" => ResolvedValue::leaf(self.name()),
            "host" => ResolvedValue::leaf(this.host.as_str()),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "heartbeatAt" => ResolvedValue::leaf(iso(this.heartbeat_at)),
            "state" => {
                let alive = now().saturating_sub(this.heartbeat_at) < SILENCE;
                ResolvedValue::leaf(if alive { "RUNNING" } else { "FINISHED" })
            }
            "totalRuns" => ResolvedValue::leaf(this.run_names(db)?.len() as i64),
            "runs" => {
                let project = Sweep::get(db, this.sweep_id)?.project_id;
                let names = this.run_names(db)?;
                let found: Result<Vec<_>, _> = names.iter().map(|name| Run::find(db, project, name)).collect();
                let runs = found?.into_iter().flatten().map(RunNode).collect();
                ask.context.object(Page::cut("RunConnection", ask, runs)?)
            }
            _ => return ask.unresolved("Agent"),
        })
    }
}

/// `Project.sweeps`.
pub(super) fn page(ask: Ask<'_>, project: i64) -> Result<Page<SweepNode>, Fault> {
    Page::cut("SweepConnection", ask, Sweep::list(ask.db(), project)?.into_iter().map(SweepNode).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upsert {
    id: Option<String>,
    config: Option<String>,
    description: Option<String>,
    display_name: Option<String>,
    entity_name: Option<String>,
    project_name: Option<String>,
    state: Option<String>,
}

/// `Mutation.upsertSweep`. Clients repeat a refused one in older forms, so refusing has no effect.
pub(super) fn upsert(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Upsert = ask.input()?;
    let plan = input.config.as_deref().filter(|config| !config.is_empty()).map(Plan::parse).transpose()?;
    let entity = entity_or_default(ask, input.entity_name.as_deref()).to_owned();
    let sweep = ask.services().db.write(|db| {
        let id = match &input.id {
            Some(id) => Sweep::get(db, ids::decode("Sweep", id)?)?.id,
            None => {
                let project = Project::ensure(db, &entity, project_or_default(input.project_name.as_deref()))?;
                let config = input.config.as_deref().ok_or_else(|| Fault::invalid("a sweep needs a configuration"))?;
                Sweep::insert(db, project.id, &run_id()?, config)?
            }
        };
        let named = plan.as_ref().and_then(|plan| plan.name.clone());
        let described = plan.as_ref().and_then(|plan| plan.description.clone());
        let sql = "UPDATE sweep SET config = coalesce(?2, config), display_name = coalesce(?3, display_name),
                   description = coalesce(?4, description), updated_at = ?5 WHERE id = ?1";
        let config = input.config.as_deref().filter(|config| !config.is_empty());
        let display_name = input.display_name.clone().or(named);
        let description = input.description.clone().or(described);
        db.execute(sql, params![id, config, display_name, description, now()])?;
        let sweep = Sweep::get(db, id)?;
        if let Some(state) = &input.state {
            change_state(db, &sweep, state)?;
        }
        Sweep::get(db, id)
    })?;
    let warnings = Vec::<apollo_compiler::response::JsonValue>::new();
    let payload =
        Payload::new("UpsertSweepPayload").leaf("configValidationWarnings", warnings).object("sweep", SweepNode(sweep));
    Ok(ask.context.object(payload))
}

fn change_state(db: &Connection, sweep: &Sweep, state: &str) -> Result<(), Fault> {
    let over = matches!(sweep.state.as_str(), "FINISHED" | "CANCELED");
    match state {
        "PAUSED" | "FINISHED" | "CANCELED" if over && state != sweep.state => {
            Err(Fault::conflict(format!("the sweep is {} and cannot become {state}", sweep.state)))
        }
        "PENDING" | "RUNNING" | "PAUSED" | "FINISHED" | "CANCELED" => sweep.set_state(db, state),
        other => Err(Fault::invalid(format!("`{other}` is not a state of a sweep"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateAgent {
    host: String,
    entity_name: Option<String>,
    project_name: Option<String>,
    sweep: String,
}

/// `Mutation.createAgent`.
pub(super) fn create_agent(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: CreateAgent = ask.input()?;
    let entity = entity_or_default(ask, input.entity_name.as_deref()).to_owned();
    let agent = ask.services().db.write(|db| {
        let project = Project::find(db, &entity, project_or_default(input.project_name.as_deref()))?;
        let sweep = project.map(|project| Sweep::find(db, project.id, &input.sweep)).transpose()?.flatten();
        let sweep = sweep.ok_or_else(|| Fault::not_found("sweep", input.sweep.as_str()))?;
        Agent::insert(db, sweep.id, &input.host)
    })?;
    Ok(ask.context.object(Payload::new("CreateAgentPayload").object("agent", AgentNode(agent))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heartbeat {
    id: String,
    run_state: Option<String>,
}

/// `Mutation.agentHeartbeat`: what the agent shall do now, as the text of a JSON list.
pub(super) fn heartbeat(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Heartbeat = ask.input()?;
    let id = ids::decode("Agent", &input.id)?;
    let state: Map<String, Value> =
        serde_json::from_str(input.run_state.as_deref().unwrap_or("{}")).unwrap_or_default();
    let alive: Vec<&str> =
        state.iter().filter(|(_, alive)| alive.as_bool() == Some(true)).map(|(name, _)| name.as_str()).collect();
    let (agent, commands) = ask.services().db.write(|db| {
        let agent = Agent::get(db, id)?;
        agent.beat(db)?;
        let commands = commands(db, &agent, &alive)?;
        Ok((agent, commands))
    })?;
    let payload = Payload::new("AgentHeartbeatPayload")
        .leaf("commands", Value::Array(commands).to_string())
        .object("agent", AgentNode(agent));
    Ok(ask.context.object(payload))
}

fn commands(db: &Connection, agent: &Agent, alive: &[&str]) -> Result<Vec<Value>, Fault> {
    let sweep = Sweep::get(db, agent.sweep_id)?;
    let exit = || vec![json!({ "type": "exit" })];
    match sweep.state.as_str() {
        "CANCELED" => return Ok(exit()),
        "FINISHED" if alive.is_empty() => return Ok(exit()),
        _ => {}
    }
    let mut stops = Vec::new();
    for name in alive {
        // Said again at each heartbeat until the run is gone: agents kill on the second time.
        if Run::find(db, sweep.project_id, name)?.is_some_and(|run| run.stop_requested) {
            stops.push(json!({ "type": "stop", "run_id": name }));
        }
    }
    if !alive.is_empty() || sweep.state == "PAUSED" {
        return Ok(stops);
    }
    let plan = Plan::parse(&sweep.config)?;
    let mut rng = ChaCha8Rng::from_seed(random().map_err(|_| Fault::Lost)?);
    match plan.next(sweep.issued(db)?, &mut rng)? {
        Some(args) => {
            let name = run_id()?;
            sweep.issue(db, agent.id, (&name, &args.to_string()))?;
            if sweep.state != "RUNNING" {
                sweep.set_state(db, "RUNNING")?;
            }
            let program = plan.program.as_deref().unwrap_or_default();
            Ok(vec![json!({ "type": "run", "run_id": name, "args": args, "program": program, "logs": [] })])
        }
        None => {
            sweep.set_state(db, "FINISHED")?;
            Ok(exit())
        }
    }
}
