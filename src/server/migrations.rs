//! The database schema, as the list of steps that lead to it. A step that was released is never edited: add another.

/// Applied in order; `user_version` counts the ones done.
pub(super) const MIGRATIONS: &[&str] = &[FOUNDATION, SWEEPS, CHARTS];

/// Times are milliseconds since 1970; digests of content are lower-case hex.
const FOUNDATION: &str = "
CREATE TABLE project (
    id INTEGER PRIMARY KEY,
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    access TEXT,
    views TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (entity, name)
);

CREATE TABLE blob (
    sha256 TEXT PRIMARY KEY,
    md5 TEXT NOT NULL,
    xxh128 TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX blob_md5 ON blob (md5);
CREATE INDEX blob_xxh128 ON blob (xxh128);

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    group_name TEXT,
    job_type TEXT,
    notes TEXT,
    description TEXT,
    state TEXT NOT NULL,
    exit_code INTEGER,
    config TEXT NOT NULL DEFAULT '{}',
    summary TEXT NOT NULL DEFAULT '{}',
    tags TEXT NOT NULL DEFAULT '[]',
    commit_hash TEXT,
    host TEXT,
    program TEXT,
    repo TEXT,
    sweep_id INTEGER,
    agent_id INTEGER,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    UNIQUE (project_id, name)
);

-- One line of one stream (history, events, output) of a run, as it was sent.
CREATE TABLE run_line (
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    stream TEXT NOT NULL,
    line INTEGER NOT NULL,
    step INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (run_id, stream, line)
) WITHOUT ROWID;
CREATE INDEX run_line_step ON run_line (run_id, stream, step, line);

CREATE TABLE run_file (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha256 TEXT REFERENCES blob (sha256),
    updated_at INTEGER NOT NULL,
    UNIQUE (run_id, name)
);

CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    severity TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE artifact_type (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (project_id, name)
);

-- A sequence holds the versions logged under its name; a portfolio holds links to versions of sequences.
CREATE TABLE collection (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    type_id INTEGER NOT NULL REFERENCES artifact_type (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('SEQUENCE', 'PORTFOLIO')),
    state TEXT NOT NULL DEFAULT 'READY' CHECK (state IN ('READY', 'DELETED')),
    description TEXT,
    digest_algorithm TEXT,
    next_version INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX collection_name ON collection (project_id, name) WHERE state = 'READY';

CREATE TABLE collection_tag (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collection (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    UNIQUE (collection_id, name)
);

CREATE TABLE artifact (
    id INTEGER PRIMARY KEY,
    sequence_id INTEGER NOT NULL REFERENCES collection (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'COMMITTED', 'DELETED')),
    digest TEXT NOT NULL,
    requested_digest TEXT NOT NULL,
    digest_algorithm TEXT NOT NULL,
    description TEXT,
    metadata TEXT,
    ttl_seconds INTEGER,
    history_step INTEGER,
    created_by_run INTEGER REFERENCES run (id) ON DELETE SET NULL,
    client_id TEXT,
    sequence_client_id TEXT,
    distributed_id TEXT,
    pending_aliases TEXT NOT NULL DEFAULT '[]',
    manifest_sha256 TEXT REFERENCES blob (sha256),
    size INTEGER NOT NULL DEFAULT 0,
    file_count INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX artifact_digest ON artifact (sequence_id, digest);
CREATE INDEX artifact_client ON artifact (client_id);
CREATE INDEX artifact_run ON artifact (created_by_run);

CREATE TABLE artifact_tag (
    id INTEGER PRIMARY KEY,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    UNIQUE (artifact_id, name)
);

-- Everything a committed artifact holds. References have no content here.
CREATE TABLE entry (
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    ref TEXT,
    birth_artifact TEXT,
    extra TEXT,
    sha256 TEXT REFERENCES blob (sha256),
    PRIMARY KEY (artifact_id, path)
) WITHOUT ROWID;
CREATE INDEX entry_content ON entry (sha256);

CREATE TABLE manifest (
    id INTEGER PRIMARY KEY,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('FULL', 'INCREMENTAL', 'PATCH')),
    digest TEXT NOT NULL,
    base_artifact INTEGER,
    created_at INTEGER NOT NULL
);
CREATE INDEX manifest_artifact ON manifest (artifact_id);

CREATE TABLE membership (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collection (id) ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    version_index INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (collection_id, artifact_id),
    UNIQUE (collection_id, version_index)
);
CREATE INDEX membership_artifact ON membership (artifact_id);

CREATE TABLE alias (
    id INTEGER PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collection (id) ON DELETE CASCADE,
    membership_id INTEGER NOT NULL REFERENCES membership (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    UNIQUE (collection_id, name)
);
CREATE INDEX alias_membership ON alias (membership_id);

-- Lineage: what a run read and what it wrote.
CREATE TABLE lineage (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    direction TEXT NOT NULL CHECK (direction IN ('INPUT', 'OUTPUT')),
    used_as TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (run_id, artifact_id, direction)
);
CREATE INDEX lineage_artifact ON lineage (artifact_id, direction);

-- An upload in parts: the whole has this MD5, its parts those.
CREATE TABLE multipart (
    id TEXT PRIMARY KEY,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    md5 TEXT NOT NULL,
    parts TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
";

/// A run that an agent was told to start is known here before it exists.
const SWEEPS: &str = "
CREATE TABLE sweep (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    display_name TEXT,
    description TEXT,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'PAUSED', 'FINISHED', 'CANCELED')),
    config TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    UNIQUE (project_id, name)
);

CREATE TABLE agent (
    id INTEGER PRIMARY KEY,
    sweep_id INTEGER NOT NULL REFERENCES sweep (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL
);

CREATE TABLE sweep_run (
    id INTEGER PRIMARY KEY,
    sweep_id INTEGER NOT NULL REFERENCES sweep (id) ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
    run_name TEXT NOT NULL,
    args TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX sweep_run_sweep ON sweep_run (sweep_id);
CREATE INDEX run_sweep ON run (sweep_id);
";

/// Vega-Lite specifications that the panels of runs name as `entity/name`.
const CHARTS: &str = "
CREATE TABLE chart (
    id INTEGER PRIMARY KEY,
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    access TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (entity, name)
);
";
