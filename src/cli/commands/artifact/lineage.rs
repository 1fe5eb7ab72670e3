//! `artifact lineage`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::artifact::{self as artifacts, Graph, GraphLimits, GraphNode, Relation};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Lineage) -> anyhow::Result<Output> {
    let limits = GraphLimits { depth: args.depth, nodes: args.limit.max(1) };
    let graph = artifacts::lineage(&context.session, &located(context, &args.artifact).await?, limits).await?;
    let edge = |edge: &artifacts::GraphEdge| {
        let relation = if edge.relation == Relation::Used { "used" } else { "made" };
        json!({"from": edge.from, "to": edge.to, "relation": relation})
    };
    let json = json!({
        "root": 0,
        "nodes": graph.nodes.iter().enumerate().map(|(at, node)| as_json(at, node)).collect::<Vec<_>>(),
        "edges": graph.edges.iter().map(edge).collect::<Vec<_>>(),
        "links": graph.links.iter().map(|link| link.name.to_string()).collect::<Vec<_>>(),
        "truncated": graph.truncated,
    });
    Ok(Output { schema: "artifact-lineage/1", json, text: tree(&graph)? })
}

fn as_json(at: usize, node: &GraphNode) -> Value {
    match node {
        GraphNode::Artifact(brief) => json!({
            "id": at,
            "kind": "artifact",
            "name": brief.name.to_string(),
            "type": brief.artifact_type,
            "digest": brief.digest,
            "size": brief.size,
            "committed": brief.committed,
        }),
        GraphNode::Run(run) => json!({
            "id": at,
            "kind": "run",
            "name": run.path(),
            "display_name": run.display_name,
            "job_type": run.job_type,
            "state": run.state,
            "created_at": run.created_at,
        }),
        GraphNode::User(name) => json!({"id": at, "kind": "user", "name": name}),
        _ => json!({"id": at, "kind": "other"}),
    }
}

fn label(node: &GraphNode) -> String {
    let text = match node {
        GraphNode::Artifact(brief) if brief.committed => format!("{} ({})", brief.name, brief.artifact_type),
        GraphNode::Artifact(brief) => format!("{} ({}, deleted)", brief.name, brief.artifact_type),
        GraphNode::Run(run) => match &run.display_name {
            Some(name) => format!("run {} ({name})", run.path()),
            None => format!("run {}", run.path()),
        },
        GraphNode::User(name) => format!("user {name}"),
        _ => String::new(),
    };
    printable(&text)
}

/// The graph as two trees, what the root came from and what came of it. A node that was shown already is not opened again.
fn tree(graph: &Graph) -> anyhow::Result<String> {
    let Some(root) = graph.nodes.first() else { return Ok(String::new()) };
    let mut text = format!("{}\n", label(root));
    for link in &graph.links {
        writeln!(text, "  linked as {}", printable(&link.name.to_string()))?;
    }
    branch(graph, (0, 1, Way::Up), &mut vec![false; graph.nodes.len()], &mut text)?;
    branch(graph, (0, 1, Way::Down), &mut vec![false; graph.nodes.len()], &mut text)?;
    if graph.truncated {
        writeln!(text, "… there is more; --limit shows more")?;
    }
    Ok(text)
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

fn branch(
    graph: &Graph,
    (at, level, way): (usize, usize, Way),
    shown: &mut Vec<bool>,
    text: &mut String,
) -> anyhow::Result<()> {
    shown[at] = true;
    for edge in &graph.edges {
        let (here, there) = if way == Way::Up { (edge.to, edge.from) } else { (edge.from, edge.to) };
        if here != at {
            continue;
        }
        let relation = match (way, edge.relation) {
            (Way::Up, Relation::Made) => "made by",
            (Way::Up, Relation::Used) => "which used",
            (Way::Down, Relation::Used) => "used by",
            (Way::Down, Relation::Made) => "which made",
        };
        let again = if shown[there] { " …" } else { "" };
        writeln!(text, "{:indent$}{relation} {}{again}", "", label(&graph.nodes[there]), indent = level * 2)?;
        if !shown[there] {
            branch(graph, (there, level + 1, way), shown, text)?;
        }
    }
    Ok(())
}
