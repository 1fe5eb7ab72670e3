//! The graph around a version: the run that made it and what that run used, the runs that used it and what they made,
//! so many runs far in both directions.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{ArtifactName, Brief, Client, Lineage, LineageRun, Maker, Place, WandbError};

/// Requests under way at a time.
const TOGETHER: usize = 8;

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphLimits {
    /// Runs between the version and the farthest one, in each direction.
    pub depth: usize,
    /// Nodes at most; the graph says when there are more.
    pub nodes: usize,
}

/// Versions and runs, and who used and made what. A node occurs once, however many ways lead to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Graph {
    /// Nodes, the version asked about first, then by distance.
    pub nodes: Vec<GraphNode>,
    /// Edges along the flow of data: from an artifact to the run that used it, from a run to the artifact it made.
    pub edges: BTreeSet<GraphEdge>,
    /// Where the version asked about is linked.
    pub links: Vec<Place>,
    /// Whether the limit on nodes left something out.
    pub truncated: bool,
    index: HashMap<String, usize>,
}

/// One thing in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphNode {
    /// A version.
    Artifact(Brief),
    /// A run.
    Run(LineageRun),
    /// A person who made a version outside of any run.
    User(String),
}

/// From one node to another, by their places in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct GraphEdge {
    /// Where data comes from.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
    /// What it means.
    pub relation: Relation,
}

/// What an edge means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// The run at the end used the artifact at the start.
    Used,
    /// The run or person at the start made the artifact at the end.
    Made,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl GraphNode {
    fn key(&self) -> String {
        match self {
            Self::Artifact(brief) => format!("artifact {}", brief.id),
            Self::Run(run) => format!("run {}", run.id),
            Self::User(name) => format!("user {name}"),
        }
    }
}

impl Graph {
    /// The place of a node, added if new; nothing when the graph is full. `true` when it is new.
    fn add(&mut self, node: GraphNode, most: usize) -> Option<(usize, bool)> {
        let key = node.key();
        if let Some(&at) = self.index.get(&key) {
            return Some((at, false));
        }
        if self.nodes.len() >= most {
            self.truncated = true;
            return None;
        }
        let at = self.nodes.len();
        self.index.insert(key, at);
        self.nodes.push(node);
        Some((at, true))
    }

    fn join(&mut self, from: usize, to: usize, relation: Relation) {
        self.edges.insert(GraphEdge { from, to, relation });
    }

    /// Takes up the runs around one version; returns those not walked yet in this direction.
    fn grow_runs(
        &mut self,
        artifact: usize,
        lineage: Lineage,
        (direction, most): (Direction, usize),
    ) -> Vec<(usize, LineageRun)> {
        let (nodes, relation) = match direction {
            Direction::Up => (lineage.made_by.into_iter().map(GraphNode::from).collect(), Relation::Made),
            Direction::Down => (lineage.used_by.into_iter().map(GraphNode::Run).collect::<Vec<_>>(), Relation::Used),
        };
        let mut runs = Vec::new();
        for node in nodes {
            let run = if let GraphNode::Run(run) = &node { Some(run.clone()) } else { None };
            let Some((at, _)) = self.add(node, most) else { continue };
            match direction {
                Direction::Up => self.join(at, artifact, relation),
                Direction::Down => self.join(artifact, at, relation),
            }
            runs.extend(run.map(|run| (at, run)));
        }
        runs
    }

    /// Takes up what a run used or made; returns the versions that are new.
    fn grow_artifacts(&mut self, run: usize, briefs: Vec<Brief>, (direction, most): (Direction, usize)) -> Vec<usize> {
        let mut new = Vec::new();
        for brief in briefs {
            let Some((at, fresh)) = self.add(GraphNode::Artifact(brief), most) else { continue };
            match direction {
                Direction::Up => self.join(at, run, Relation::Used),
                Direction::Down => self.join(run, at, Relation::Made),
            }
            if fresh {
                new.push(at);
            }
        }
        new
    }
}

impl From<Maker> for GraphNode {
    fn from(maker: Maker) -> Self {
        match maker {
            Maker::Run(run) => Self::Run(run),
            Maker::User(name) => Self::User(name.unwrap_or_else(|| "somebody".to_owned())),
        }
    }
}

/// The graph around a version.
///
/// # Errors
/// [`AppError::Wandb`] naming the version.
pub async fn lineage(session: &Session, name: &ArtifactName, limits: GraphLimits) -> Result<Graph, AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let name = artifact.name();
    let tracing = || AppError::wandb(format!("trace {name}"));
    let around = client.lineage(&artifact.id).await.map_err(tracing())?;
    let mut graph = Graph { links: around.links.clone(), ..Graph::default() };
    graph.add(GraphNode::Artifact(Brief::from(&artifact)), usize::MAX);
    for direction in [Direction::Up, Direction::Down] {
        walk(client, &mut graph, (&around, direction), limits).await.map_err(tracing())?;
    }
    Ok(graph)
}

/// Goes from the first node in one direction, one run farther in each round.
async fn walk(
    client: &Client,
    graph: &mut Graph,
    (around, direction): (&Lineage, Direction),
    limits: GraphLimits,
) -> Result<(), WandbError> {
    let way = (direction, limits.nodes);
    let mut walked = BTreeSet::new();
    let mut found = vec![(0, around.clone())];
    for round in 0..limits.depth {
        let mut runs = Vec::new();
        for (artifact, lineage) in found.drain(..) {
            runs.extend(graph.grow_runs(artifact, lineage, way));
        }
        runs.retain(|(at, _)| walked.insert(*at));
        let asked = runs.iter().map(async |(at, run)| {
            let briefs = match direction {
                Direction::Up => client.run_inputs(run).await?,
                Direction::Down => client.run_outputs(run).await?,
            };
            Ok::<_, WandbError>((*at, briefs))
        });
        let answers: Vec<_> = stream::iter(asked).buffered(TOGETHER).try_collect().await?;
        let new: Vec<usize> =
            answers.into_iter().flat_map(|(run, briefs)| graph.grow_artifacts(run, briefs, way)).collect();
        if round + 1 == limits.depth || new.is_empty() {
            return Ok(());
        }
        let next: Vec<(usize, String)> = new.into_iter().filter_map(|at| Some((at, id_of(graph, at)?))).collect();
        let asked = next.iter().map(async |(at, id)| Ok::<_, WandbError>((*at, client.lineage(id).await?)));
        found = stream::iter(asked).buffered(TOGETHER).try_collect().await?;
    }
    Ok(())
}

fn id_of(graph: &Graph, at: usize) -> Option<String> {
    match graph.nodes.get(at) {
        Some(GraphNode::Artifact(brief)) => Some(brief.id.clone()),
        _ => None,
    }
}
