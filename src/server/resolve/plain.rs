//! Objects without a noun of their own: payloads of mutations, pages of connections.

use apollo_compiler::resolvers::ResolvedValue;
use apollo_compiler::response::JsonValue;

use super::{Ask, Fault, Resolve};

/// How many items a page has when the client does not say.
const DEFAULT_PAGE: i64 = 500;

/// A payload: leaves, and objects under their field names.
#[derive(Default)]
pub(super) struct Payload<'a> {
    type_name: &'static str,
    leaves: Vec<(&'static str, JsonValue)>,
    objects: Vec<(&'static str, Box<dyn Resolve + 'a>)>,
}

impl<'a> Payload<'a> {
    pub(super) fn new(type_name: &'static str) -> Self {
        Self { type_name, ..Self::default() }
    }

    /// A payload that says only that it worked.
    pub(super) fn success(type_name: &'static str) -> Self {
        Self::new(type_name).leaf("success", true)
    }

    pub(super) fn leaf(mut self, name: &'static str, value: impl Into<JsonValue>) -> Self {
        self.leaves.push((name, value.into()));
        self
    }

    pub(super) fn object(mut self, name: &'static str, value: impl Resolve + 'a) -> Self {
        self.objects.push((name, Box::new(value)));
        self
    }
}

impl Resolve for Payload<'_> {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        if let Some((_, leaf)) = self.leaves.iter().find(|(name, _)| *name == ask.name()) {
            return Ok(resolved(leaf));
        }
        match self.objects.iter().find(|(name, _)| *name == ask.name()) {
            Some((_, object)) => Ok(ask.context.object(object)),
            // What a client sent to recognise the answer by is never needed: one answer a request.
            None if ask.name() == "clientMutationId" => Ok(ResolvedValue::null()),
            None => ask.unresolved(self.type_name),
        }
    }
}

/// A list of scalars resolves as a list, everything else as it is.
fn resolved(leaf: &JsonValue) -> ResolvedValue<'_> {
    match leaf {
        JsonValue::Array(items) => ResolvedValue::list(items.iter().cloned().map(ResolvedValue::leaf)),
        other => ResolvedValue::leaf(other.clone()),
    }
}

/// A list of objects, for payload fields that are lists.
pub(super) struct Listing<'a> {
    type_name: &'static str,
    field: &'static str,
    items: Vec<Box<dyn Resolve + 'a>>,
    leaves: Vec<(&'static str, JsonValue)>,
}

impl<'a> Listing<'a> {
    pub(super) fn new<T: Resolve + 'a>(type_name: &'static str, field: &'static str, items: Vec<T>) -> Self {
        let items = items.into_iter().map(|item| Box::new(item) as Box<dyn Resolve + 'a>).collect();
        Self { type_name, field, items, leaves: Vec::new() }
    }

    pub(super) fn leaf(mut self, name: &'static str, value: impl Into<JsonValue>) -> Self {
        self.leaves.push((name, value.into()));
        self
    }
}

impl Resolve for Listing<'_> {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        if ask.name() == self.field {
            return Ok(ask.context.list(self.items.iter()));
        }
        match self.leaves.iter().find(|(name, _)| *name == ask.name()) {
            Some((_, leaf)) => Ok(resolved(leaf)),
            None => ask.unresolved(self.type_name),
        }
    }
}

/// One item of a page.
pub(super) struct Item<T> {
    pub(super) cursor: String,
    /// `vN` where the edge has a version.
    pub(super) version: Option<String>,
    pub(super) value: T,
}

/// A page of a connection (Relay style): `edges { node cursor } pageInfo totalCount`.
pub(super) struct Page<T> {
    type_name: &'static str,
    items: Vec<Item<T>>,
    has_next: bool,
    total: i64,
}

impl<T> Page<T> {
    /// A page that was cut by the caller.
    pub(super) fn new(type_name: &'static str, items: Vec<Item<T>>, has_next: bool, total: i64) -> Self {
        Self { type_name, items, has_next, total }
    }

    /// Cuts the page that `first` and `after` ask for out of everything. Cursors are positions.
    pub(super) fn cut(type_name: &'static str, ask: Ask<'_>, all: Vec<T>) -> Result<Self, Fault> {
        let total = all.len() as i64;
        let (start, count) = window(ask)?;
        let items: Vec<_> = all
            .into_iter()
            .enumerate()
            .skip(start)
            .take(count)
            .map(|(index, value)| Item { cursor: (index + 1).to_string(), version: None, value })
            .collect();
        let has_next = ((start + items.len()) as i64) < total;
        Ok(Self { type_name, items, has_next, total })
    }

    /// Gives each edge its version.
    pub(super) fn versioned(mut self, version: impl Fn(&T) -> Option<i64>) -> Self {
        for item in &mut self.items {
            item.version = version(&item.value).map(|index| format!("v{index}"));
        }
        self
    }
}

/// How many items a page may have.
pub(super) fn page_size(ask: Ask<'_>) -> Result<usize, Fault> {
    let first = ask.integer("first").unwrap_or(DEFAULT_PAGE);
    usize::try_from(first).map_err(|_| Fault::invalid("`first` must not be negative"))
}

fn window(ask: Ask<'_>) -> Result<(usize, usize), Fault> {
    let start = match ask.text("after").filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => {
            cursor.parse().map_err(|_| Fault::invalid(format!("`{cursor}` is not a cursor of this list")))?
        }
        None => 0,
    };
    Ok((start, page_size(ask)?))
}

impl<T: Resolve> Resolve for Page<T> {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            "edges" => ask.context.list(self.items.iter().map(|item| Edge { connection: self.type_name, item })),
            "totalCount" => ResolvedValue::leaf(self.total),
            "pageInfo" => {
                let end = self.items.last().map(|item| item.cursor.clone());
                ask.context.object(Payload::new("PageInfo").leaf("hasNextPage", self.has_next).leaf("endCursor", end))
            }
            _ => return ask.unresolved(self.type_name),
        })
    }
}

struct Edge<'p, T> {
    connection: &'static str,
    item: &'p Item<T>,
}

impl<T: Resolve> Resolve for Edge<'_, T> {
    /// Never asked for by a client, and no resolver depends on it: the schema's list type decides.
    fn type_name(&self) -> &str {
        edge_type(self.connection)
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            "node" => ask.context.object(&self.item.value),
            "cursor" => ResolvedValue::leaf(self.item.cursor.as_str()),
            "version" => ResolvedValue::leaf(self.item.version.as_deref().unwrap_or_default()),
            _ => return ask.unresolved(self.type_name()),
        })
    }
}

fn edge_type(connection: &'static str) -> &'static str {
    match connection {
        "AgentConnection" => "AgentEdge",
        "ArtifactAliasConnection" => "ArtifactAliasEdge",
        "ArtifactCollectionConnection" => "ArtifactCollectionEdge",
        "ArtifactCollectionMembershipConnection" => "ArtifactCollectionMembershipEdge",
        "ArtifactConnection" => "ArtifactEdge",
        "ArtifactTypeConnection" => "ArtifactTypeEdge",
        "EntityConnection" => "EntityEdge",
        "FileConnection" => "FileEdge",
        "InputArtifactConnection" => "InputArtifactEdge",
        "LogLineConnection" => "LogLineEdge",
        "ProjectConnection" => "ProjectEdge",
        "RunConnection" => "RunEdge",
        "SweepConnection" => "SweepEdge",
        "TagConnection" => "TagEdge",
        "VersionedArtifactConnection" => "VersionedArtifactEdge",
        other => other,
    }
}
