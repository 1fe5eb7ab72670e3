//! Starting a run: on a server, or in a folder alone. Network I/O through the client, file I/O.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::Client;
use super::super::error::WandbError;
use super::super::offline::{
    Assembly, Content, Context, Cursor, Destination, First, Home, LogReader, Record, Renamed, RunFolder, RunRecord,
    Sender, Spool, Start, channel,
};
use super::options::{RunOptions, identifier};
use super::parting::Presence;
use super::record::{environment, run_record};
use super::{Link, Resume, Run, State};
use crate::progress::Progress;

impl Client {
    /// Starts a run, or goes on with the one whose id is given, as [`RunOptions::resume`] says. When the server cannot be
    /// reached, the run is offline and [`Run::finish`] says so.
    ///
    /// # Errors
    /// [`WandbError::Option`] for options that W&B refuses, [`WandbError::RunExists`] and [`WandbError::NotFound`] when it
    /// was to be otherwise, [`WandbError::File`] when the run's folder cannot be made, or what the request met.
    pub async fn start_run(&self, options: RunOptions) -> Result<Run, WandbError> {
        options.check()?;
        let id = options.id.clone().unwrap_or_else(|| identifier(8));
        let progress = self.transport().progress.clone();
        let offline = |error: WandbError, options| {
            progress.note(&format!("{error}; the run is logged offline"));
            Run::offline(options, &id, Some(Box::new(error)), progress.clone())
        };
        let past = match self.past_of(&options, &id).await {
            Ok(past) => past,
            Err(error) if error.is_network() => return offline(error, options),
            Err(error) => return Err(error),
        };
        let mut options = options;
        if let Some(past) = &past {
            let mut config = past.config.clone();
            config.extend(std::mem::take(&mut options.config));
            options.config = config;
        }
        let mut record = run_record(&options, &id, past.as_ref());
        let environment = Content::Environment(Box::new(environment(&options)));
        let mut assembly = Assembly::default();
        for content in [Content::Run(Box::new(record.clone())), environment.clone()] {
            assembly.take(Record { content: Some(content), ..Record::default() });
        }
        let upserted = match self.upsert(&assembly, &Renamed::default()).await {
            Ok(upserted) => upserted,
            Err(error) if error.is_network() => return offline(error, options),
            Err(error) => return Err(error),
        };
        let home = upserted.home;
        (record.entity, record.project) = (home.entity.clone(), home.project.clone());
        record.display_name = upserted.display_name.clone().unwrap_or_default();
        let folder = RunFolder::create(&options.root, Start::Online, &home.run)?;
        let spool = Spool::create(folder.clone(), vec![Content::Run(Box::new(record)), environment], true)?;
        let lines = past.as_ref().map_or([upserted.rows, 0, 0], |past| past.lines);
        let first = First { lines, ..First::default() };
        let cursor = Cursor::begin(&folder, Destination::of(self, &home), first)?;
        let reader = LogReader::open(folder.log())?;
        let context = Context { client: self.clone(), home: Arc::new(home.clone()), folder };
        let sender = Sender::new(context, Renamed::default(), (reader, Assembly::of_made_run()), cursor);
        let (written, watched) = channel();
        let reading = Arc::clone(&spool);
        let presence = Presence::new();
        let task = tokio::spawn(async move {
            let _presence = presence;
            sender.follow(watched, &reading).await
        });
        let link = Link::Sending { client: self.clone(), written, task };
        let step = past.as_ref().map_or(upserted.rows, |past| past.step);
        Ok(Run {
            display_name: upserted.display_name,
            before: Duration::from_secs(past.as_ref().map_or(0, |past| past.runtime)),
            resumed: past.is_some(),
            ..Run::new(home, options, (spool, link, step), progress)
        })
    }
}

impl Run {
    /// Starts a run that is only written to its folder, in the official SDK's layout, for [`Client::sync`] or
    /// `wandb sync`. To be called in a tokio runtime.
    ///
    /// # Errors
    /// As [`Client::start_run`], without what a request meets.
    pub fn start_offline(options: RunOptions, progress: Progress) -> Result<Self, WandbError> {
        options.check()?;
        let id = options.id.clone().unwrap_or_else(|| identifier(8));
        Self::offline(options, &id, None, progress)
    }

    fn offline(
        options: RunOptions,
        id: &str,
        reason: Option<Box<WandbError>>,
        progress: Progress,
    ) -> Result<Self, WandbError> {
        // Whoever sends it asks the server what we cannot.
        let resume = matches!(options.resume, Resume::Allow | Resume::Must);
        let record = RunRecord { resume, ..run_record(&options, id, None) };
        let entity = options.entity.clone().unwrap_or_default();
        let home = Home { entity, project: options.project.clone(), run: id.to_owned() };
        let folder = RunFolder::create(&options.root, Start::Offline, &home.run)?;
        let environment = Content::Environment(Box::new(environment(&options)));
        let spool = Spool::create(folder, vec![Content::Run(Box::new(record)), environment], false)?;
        Ok(Self::new(home, options, (spool, Link::Nobody(reason), 0), progress))
    }

    fn new(home: Home, options: RunOptions, (spool, link, step): (Arc<Spool>, Link, u64), progress: Progress) -> Self {
        Self {
            home,
            display_name: options.display_name,
            started: Instant::now(),
            before: Duration::ZERO,
            resumed: false,
            finish_limit: options.finish_limit,
            spool,
            link,
            progress,
            state: Mutex::new(State { step, config: options.config }),
        }
    }
}
