//! What a run is started with, and the rules W&B has for it. No I/O.

use std::path::PathBuf;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use serde_json::{Map, Value};

use super::super::error::WandbError;
use super::resume::Resume;

/// Settings of a run. Start from [`RunOptions::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunOptions {
    /// Entity; the key's default one when none is given.
    pub entity: Option<String>,
    /// Project; made when missing.
    pub project: String,
    /// Id; made up when none is given. Rows are appended to a run that exists.
    pub id: Option<String>,
    /// What people see.
    pub display_name: Option<String>,
    /// Group, such as a study.
    pub group: Option<String>,
    /// Job type, such as `pca`.
    pub job_type: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Notes.
    pub notes: Option<String>,
    /// Configuration.
    pub config: Map<String, Value>,
    /// The program, for the UI.
    pub program: Option<String>,
    /// The machine, for the UI.
    pub host: Option<String>,
    /// Sweep that this run belongs to.
    pub sweep: Option<String>,
    /// Whether to go on with a run of that id.
    pub resume: Resume,
    /// How long [`Run::finish`](super::Run::finish) may take to send what is left.
    pub finish_limit: Duration,
    /// Where `wandb/` is or will be, the folder for runs. Default: the working folder.
    pub root: PathBuf,
}

impl RunOptions {
    /// A run in `project` with nothing else set.
    pub fn new(project: impl Into<String>) -> Self {
        Self {
            entity: None,
            project: project.into(),
            id: None,
            display_name: None,
            group: None,
            job_type: None,
            tags: Vec::new(),
            notes: None,
            config: Map::new(),
            program: None,
            host: None,
            sweep: None,
            resume: Resume::default(),
            finish_limit: Duration::from_secs(600),
            root: PathBuf::from("."),
        }
    }

    /// Sets the entity.
    #[must_use]
    pub fn with_entity(mut self, entity: Option<String>) -> Self {
        self.entity = entity;
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: Option<String>) -> Self {
        self.id = id;
        self
    }

    /// Sets what people see.
    #[must_use]
    pub fn with_display_name(mut self, display_name: Option<String>) -> Self {
        self.display_name = display_name;
        self
    }

    /// Sets the group.
    #[must_use]
    pub fn with_group(mut self, group: Option<String>) -> Self {
        self.group = group;
        self
    }

    /// Sets the job type.
    #[must_use]
    pub fn with_job_type(mut self, job_type: Option<String>) -> Self {
        self.job_type = job_type;
        self
    }

    /// Sets the tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Vec<String>) -> Self {
        self.tags = tags;
        self
    }

    /// Sets the notes.
    #[must_use]
    pub fn with_notes(mut self, notes: Option<String>) -> Self {
        self.notes = notes;
        self
    }

    /// Sets the configuration.
    #[must_use]
    pub fn with_config(mut self, config: Map<String, Value>) -> Self {
        self.config = config;
        self
    }

    /// Sets program and machine, for the UI.
    #[must_use]
    pub fn with_origin(mut self, program: Option<String>, host: Option<String>) -> Self {
        (self.program, self.host) = (program, host);
        self
    }

    /// Sets the sweep.
    #[must_use]
    pub fn with_sweep(mut self, sweep: Option<String>) -> Self {
        self.sweep = sweep;
        self
    }

    /// Sets whether to go on with a run of that id.
    #[must_use]
    pub fn with_resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Sets how long finishing may take to send what is left; ten minutes otherwise. What is not sent by then stays in the
    /// run's folder.
    #[must_use]
    pub fn with_finish_limit(mut self, limit: Duration) -> Self {
        self.finish_limit = limit;
        self
    }

    /// Sets where `wandb/` is, the folder for runs: what a run logs is written there before it is sent, and stays there
    /// until everything is on the server.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// The official client's rules (`wandb/sdk/wandb_settings.py`).
    pub(super) fn check(&self) -> Result<(), WandbError> {
        let refuse = |option, reason: String| Err(WandbError::Option { option, reason });
        let project = self.project.as_str();
        if project.is_empty() || project.len() > 128 || project.contains(['/', '\\', '#', '?', '%', ':', '\r', '\n']) {
            return refuse("project", format!("`{project}` is empty, longer than 128, or holds one of / \\ # ? % :"));
        }
        if let Some(id) = &self.id
            && (id.is_empty() || id.len() > 64 || id.trim() != id || id.contains([':', ';', ',', '#', '?', '/', '\'']))
        {
            return refuse("run id", format!("`{id}` is empty, longer than 64, or holds one of : ; , # ? / '"));
        }
        if self.id.is_none() && matches!(self.resume, Resume::Must) {
            return refuse("run id", "a run that must be there needs one".to_owned());
        }
        match self.tags.iter().find(|tag| tag.is_empty() || tag.chars().count() > 64) {
            Some(tag) => refuse("tags", format!("`{tag}` has not 1 to 64 characters")),
            None => Ok(()),
        }
    }
}

/// Random lower-case letters and digits, from the operating system's randomness.
pub(super) fn identifier(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // Without the system's randomness the time and the process still tell two runs apart.
    let mut random = ChaCha12Rng::try_from_rng(&mut rand::rngs::SysRng).unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        ChaCha12Rng::seed_from_u64(now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40))
    });
    let mut pick = || ALPHABET.get(random.random_range(0..ALPHABET.len())).copied().unwrap_or(b'a');
    (0..length).map(|_| char::from(pick())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_rules() {
        assert!(RunOptions::new("vectors").with_id(Some("abc12345".to_owned())).check().is_ok());
        for project in ["", "a/b", "a:b", &"x".repeat(129)] {
            assert!(RunOptions::new(project).check().is_err(), "{project}");
        }
        for id in ["", "a/b", " a", "it's"] {
            assert!(RunOptions::new("p").with_id(Some(id.to_owned())).check().is_err(), "{id}");
        }
        assert!(RunOptions::new("p").with_tags(vec![String::new()]).check().is_err());
    }

    #[test]
    fn identifiers_are_random_and_plain() {
        let (one, two) = (identifier(128), identifier(128));
        assert!(one != two && one.len() == 128);
        assert!(one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    }
}
