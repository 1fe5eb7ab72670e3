//! Sweeps and their agents: making a sweep, reading it, taking part in it. Network I/O through the client.
//!
//! An agent registers, then sends a heartbeat every few seconds with the runs that are still going, and gets back what it
//! shall do. The server makes up the id of a run when it hands it out; the run exists once the agent starts it under that
//! id (facts: `wandb/wandb_agent.py`, `wandb/apis/public/sweeps.py`).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Client;
use super::error::WandbError;
use super::graphql::execute;
use super::operations::{
    CreateAgent, CreateAgentInput, EditRun, EditRunInput, Heartbeat, HeartbeatInput, Page, SweepRunNode, SweepWithRuns,
    UpsertSweep, UpsertSweepInput,
};

/// Runs of one page.
const PAGE: usize = 100;

/// A sweep as a person names it: `entity/project/id`, `project/id` or `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepName {
    /// Entity, when given.
    pub entity: Option<String>,
    /// Project, when given.
    pub project: Option<String>,
    /// The short id that the server gave it.
    pub id: String,
}

/// A text that is no name of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a sweep: it should be entity/project/id, project/id or id")]
pub struct SweepNameError {
    text: String,
}

impl FromStr for SweepName {
    type Err = SweepNameError;

    fn from_str(text: &str) -> Result<Self, SweepNameError> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
            return Err(SweepNameError { text: text.to_owned() });
        }
        let owned = |part: &str| Some(part.to_owned());
        match parts.as_slice() {
            [id] => Ok(Self { entity: None, project: None, id: (*id).to_owned() }),
            [project, id] => Ok(Self { entity: None, project: owned(project), id: (*id).to_owned() }),
            [entity, project, id] => Ok(Self { entity: owned(entity), project: owned(project), id: (*id).to_owned() }),
            _ => Err(SweepNameError { text: text.to_owned() }),
        }
    }
}

/// A sweep on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepPath {
    /// Entity.
    pub entity: String,
    /// Project.
    pub project: String,
    /// Short id.
    pub id: String,
}

impl fmt::Display for SweepPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.entity, self.project, self.id)
    }
}

/// A sweep that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedSweep {
    /// Where it is.
    pub path: SweepPath,
    /// What the server finds odd about its configuration.
    pub warnings: Vec<String>,
}

/// A sweep as it stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sweep {
    /// Where it is.
    pub path: SweepPath,
    /// `PENDING`, `RUNNING`, `PAUSED`, `FINISHED` or `CANCELED`.
    pub state: String,
    /// Its configuration, YAML text.
    pub config: String,
    /// Its runs, as far as they were started.
    pub runs: Vec<SweepRun>,
}

impl Sweep {
    /// Whether it hands out nothing any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "FINISHED" | "CANCELED")
    }
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SweepRun {
    /// Its id.
    pub id: String,
    /// `running`, `finished`, `failed`, `crashed`, `killed`, …
    pub state: String,
    /// Its configuration, without W&B's own part.
    pub config: Map<String, Value>,
    /// What mutations call it.
    storage: String,
    /// The configuration as the server has it.
    stored: Map<String, Value>,
}

/// Where the configuration of a run says which agent wants to do it again.
const RETRIED_BY: &str = "retried_by";

impl SweepRun {
    /// The agent that wants to do this run again, by [`Client::claim_retry`].
    pub fn retried_by(&self) -> Option<&str> {
        self.config.get(RETRIED_BY).and_then(Value::as_str)
    }
}

/// An agent of a sweep, known to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepAgent {
    id: String,
    sweep: SweepPath,
}

impl SweepAgent {
    /// What the server calls it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What the server wants an agent to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentCommand {
    /// Start this run, or go on with it.
    Run {
        /// Id that it must have.
        run: String,
        /// Its parameters in the server's order.
        parameters: Vec<(String, Value)>,
    },
    /// Stop this run.
    Stop {
        /// Its id.
        run: String,
    },
    /// Stop all runs and leave.
    Exit,
    /// Something that is not known here.
    Unknown {
        /// What it is called.
        kind: String,
    },
}

impl Client {
    /// Makes a sweep from a configuration in YAML. The project is made when missing; without an entity it goes to the key's
    /// default one.
    ///
    /// # Errors
    /// [`WandbError::Rejected`] for a configuration that the server refuses, or what the request met.
    pub async fn create_sweep(
        &self,
        [entity, project]: [Option<&str>; 2],
        config: &str,
    ) -> Result<CreatedSweep, WandbError> {
        let project_name = project.unwrap_or("uncategorized");
        let what = format!("a new sweep in {project_name}");
        let input = UpsertSweepInput { config, entity_name: entity, project_name };
        let data = execute(self.transport(), &self.budget(), &what, &UpsertSweep { input }).await?;
        let malformed = |reason: &str| WandbError::Malformed { what: what.clone(), reason: reason.to_owned() };
        let payload = data.upsert_sweep.ok_or_else(|| malformed("it is empty"))?;
        let sweep = payload.sweep.ok_or_else(|| malformed("it has no sweep"))?;
        let project = sweep.project.ok_or_else(|| malformed("it names no project"))?;
        let path = SweepPath { entity: project.entity.name, project: project.name, id: sweep.name };
        Ok(CreatedSweep { path, warnings: payload.config_validation_warnings })
    }

    /// A sweep with all its runs.
    ///
    /// # Errors
    /// [`WandbError::NotFound`], or what the request met.
    pub async fn sweep(&self, entity: Option<&str>, (project, id): (&str, &str)) -> Result<Sweep, WandbError> {
        let what = format!("sweep {}{project}/{id}", entity.map(|entity| format!("{entity}/")).unwrap_or_default());
        let (mut runs, mut cursor) = (Vec::new(), None);
        loop {
            let page = Page { cursor, per_page: PAGE };
            let variables = SweepWithRuns { entity, project, sweep: id, page };
            let data = execute(self.transport(), &self.budget(), &what, &variables).await?;
            let found = data.project.and_then(|project| Some((project.entity.name, project.name, project.sweep?)));
            let (entity, project, sweep) = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
            let (nodes, next) = sweep.runs.into_page();
            runs.extend(nodes.into_iter().map(SweepRun::of));
            cursor = next;
            if cursor.is_none() {
                let path = SweepPath { entity, project, id: id.to_owned() };
                return Ok(Sweep { path, state: sweep.state, config: sweep.config, runs });
            }
        }
    }

    /// Registers an agent on this host.
    ///
    /// # Errors
    /// What the request met.
    pub async fn register_agent(&self, sweep: &SweepPath, host: &str) -> Result<SweepAgent, WandbError> {
        let what = format!("an agent of sweep {sweep}");
        let SweepPath { entity, project, id } = sweep;
        let input = CreateAgentInput { host, entity_name: entity, project_name: project, sweep: id };
        let data = execute(self.transport(), &self.budget(), &what, &CreateAgent { input }).await?;
        let agent = data.create_agent.and_then(|payload| payload.agent);
        let agent = agent.ok_or_else(|| WandbError::Malformed { what, reason: "it has no agent".to_owned() })?;
        Ok(SweepAgent { id: agent.id, sweep: sweep.clone() })
    }

    /// Writes into the configuration of a run that this agent wants to do it again. Whoever wrote last stands there: the
    /// protocol has no way to write only where nobody did, so look again ([`SweepRun::retried_by`]) after a while.
    ///
    /// # Errors
    /// What the request met.
    pub async fn claim_retry(&self, agent: &SweepAgent, run: &SweepRun) -> Result<(), WandbError> {
        let what = format!("the configuration of run {}", run.id);
        let mut config = run.stored.clone();
        config.insert(RETRIED_BY.to_owned(), json!({ "value": agent.id }));
        let input = EditRunInput { id: &run.storage, config: Value::Object(config).to_string() };
        execute(self.transport(), &self.budget(), &what, &EditRun { input }).await.map(drop)
    }

    /// Says that the agent lives and which of its runs are going, and asks what to do.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] when the sweep was deleted, or what the request met.
    pub async fn heartbeat(&self, agent: &SweepAgent, going: &[&str]) -> Result<Vec<AgentCommand>, WandbError> {
        let what = format!("the heartbeat of an agent of sweep {}", agent.sweep);
        let state: Map<String, Value> = going.iter().map(|run| ((*run).to_owned(), true.into())).collect();
        let input = HeartbeatInput { id: &agent.id, metrics: "{}", run_state: Value::Object(state).to_string() };
        let data = execute(self.transport(), &self.budget(), &what, &Heartbeat { input }).await?;
        let commands = data.agent_heartbeat.and_then(|payload| payload.commands);
        commands_of(commands.as_deref().unwrap_or("[]")).map_err(|reason| WandbError::Malformed { what, reason })
    }
}

impl SweepRun {
    fn of(node: SweepRunNode) -> Self {
        let stored: Map<String, Value> =
            node.config.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let own = stored.clone().into_iter().filter(|(name, _)| name != "_wandb");
        let value = |entry: Value| match entry {
            Value::Object(mut entry) if entry.contains_key("value") => entry.remove("value").unwrap_or_default(),
            other => other,
        };
        let config = own.map(|(name, entry)| (name, value(entry))).collect();
        Self { id: node.name, state: node.state.unwrap_or_default(), config, storage: node.id, stored }
    }
}

#[derive(Debug, Deserialize)]
struct WireCommand {
    #[serde(rename = "type")]
    kind: String,
    run_id: Option<String>,
    #[serde(default)]
    args: Map<String, Value>,
}

fn commands_of(text: &str) -> Result<Vec<AgentCommand>, String> {
    let wire: Option<Vec<WireCommand>> =
        serde_json::from_str(text).map_err(|error| format!("its commands are no list of commands: {error}"))?;
    let command = |WireCommand { kind, run_id, args }: WireCommand| match (kind.as_str(), run_id) {
        ("run" | "resume", Some(run)) => {
            let value = |entry: Value| match entry {
                Value::Object(mut entry) => entry.remove("value").unwrap_or_default(),
                other => other,
            };
            let parameters = args.into_iter().map(|(name, entry)| (name, value(entry))).collect();
            Ok(AgentCommand::Run { run, parameters })
        }
        ("stop", Some(run)) => Ok(AgentCommand::Stop { run }),
        ("exit", _) => Ok(AgentCommand::Exit),
        ("run" | "resume" | "stop", None) => Err(format!("its command `{kind}` names no run")),
        _ => Ok(AgentCommand::Unknown { kind }),
    };
    wire.unwrap_or_default().into_iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_sweeps() {
        let parts = |text: &str| text.parse::<SweepName>().ok().map(|name| (name.entity, name.project, name.id));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("abc"), Some((None, None, "abc".to_owned())));
        assert_eq!(parts("p/abc"), Some((None, some("p"), "abc".to_owned())));
        assert_eq!(parts("e/p/abc"), Some((some("e"), some("p"), "abc".to_owned())));
        for wrong in ["", "/abc", "e//abc", "e/p/", "e/p/a b", "a/b/c/d"] {
            assert!(parts(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_a_server_wants_of_an_agent() {
        let text = json!([
            { "type": "run", "run_id": "r1", "program": "p", "logs": [],
              "args": { "model": { "value": "m" }, "n": { "value": 3 } } },
            { "type": "stop", "run_id": "r0" }, { "type": "dance" }, { "type": "exit" } ]);
        let run = AgentCommand::Run {
            run: "r1".to_owned(),
            parameters: vec![("model".to_owned(), json!("m")), ("n".to_owned(), json!(3))],
        };
        let rest = [
            AgentCommand::Stop { run: "r0".to_owned() },
            AgentCommand::Unknown { kind: "dance".to_owned() },
            AgentCommand::Exit,
        ];
        assert_eq!(commands_of(&text.to_string()).unwrap(), [vec![run], rest.to_vec()].concat());
        assert_eq!(commands_of("[]").unwrap(), []);
        assert_eq!(commands_of("null").unwrap(), []);
        for wrong in ["", "{}", "[1]", r#"[{"type":"run"}]"#, r#"[{"type":"stop"}]"#] {
            assert!(commands_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_runs_configuration_without_wrapping() {
        let config = json!({ "model": { "value": "m", "desc": null }, "_wandb": { "value": {} } }).to_string();
        let [id, name] = ["UnVu", "r"].map(str::to_owned);
        let run = SweepRun::of(SweepRunNode { id, name, state: Some("failed".to_owned()), config: Some(config) });
        assert_eq!(run.retried_by(), None);
        assert_eq!((run.state.as_str(), Value::Object(run.config)), ("failed", json!({ "model": "m" })));
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in r#"\[?\{?("type"|"run_id"|"args"|:|,|"run"|[0-9]|\{|\}|\[|\]|.){0,30}"#) {
            let _ = commands_of(&text);
        }
    }
}
