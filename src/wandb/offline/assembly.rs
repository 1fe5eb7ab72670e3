//! What the records of a log add up to, one after another: the run as it is to be on the server, lines for its streams,
//! and errands to run. Pure: no I/O, no clock.
//!
//! The same records make the same lines with the same numbers, always. That is what lets a log be sent twice without a row
//! being there twice.

use serde_json::{Value, json};

use super::past::Past;
use super::record::{
    AlertRecord, ArtifactRecord, ConfigRecord, Content, EnvironmentRecord, FilesItem, HistoryRecord, Item,
    OutputRawRecord, Record, RunRecord, StatsRecord, Timestamp, UseArtifactRecord,
};
use super::telemetry::{Metrics, SENDER, environment, telemetry, telemetry_text};
use super::tree::Tree;

/// What a record asks for besides changing the run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A line for a stream.
    Line(Stream, String),
    /// Something to do once; the number is the record's.
    Errand(i64, Errand),
    /// The end of the run.
    Exit(i32),
}

/// The streams of a run whose lines are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    /// Rows.
    History,
    /// System metrics.
    Events,
    /// What the program printed.
    Console,
}

impl Stream {
    pub(crate) const ALL: [Self; 3] = [Self::History, Self::Events, Self::Console];

    /// The name under which the server takes the lines.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::History => "wandb-history.jsonl",
            Self::Events => "wandb-events.jsonl",
            Self::Console => "output.log",
        }
    }
}

/// Something to do once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Errand {
    /// Upload these run files.
    Files(Vec<FilesItem>),
    /// Log an artifact, at this step of the run.
    Artifact(Box<ArtifactRecord>, Option<u64>),
    /// Make an artifact an input.
    Use(UseArtifactRecord),
    /// Tell somebody.
    Alert(AlertRecord),
}

/// The run so far.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    run: Option<RunRecord>,
    config: Tree,
    summary: Tree,
    telemetry: Vec<u8>,
    metrics: Metrics,
    environment: EnvironmentRecord,
    console: Console,
    /// The configuration or another property of the run is not as it was when last asked.
    changed: bool,
    summary_changed: bool,
    /// `_step` of the last row.
    step: Option<String>,
    /// The first record of the run says nothing that the server does not know.
    made: bool,
    /// What is added to the steps of the log.
    first_step: u64,
}

impl Assembly {
    /// For a log whose run was made on the server from its first record.
    pub(crate) fn of_made_run() -> Self {
        Self { made: true, ..Self::default() }
    }

    /// For a log that goes on with a run which had this: what the log says stands over it.
    /// Its steps count from `first_step`; its times stay, as the official `sync` has it.
    pub(crate) fn going_on(past: &Past, first_step: u64) -> Self {
        let mut assembly = Self { first_step, ..Self::default() };
        assembly.config.update(&past.config_items());
        assembly.summary.update(&past.summary_items());
        assembly
    }

    /// Takes the next record in.
    pub(crate) fn take(&mut self, record: Record) -> Vec<Step> {
        let errand = |errand| vec![Step::Errand(record.num, errand)];
        let Some(content) = record.content else { return Vec::new() };
        match content {
            Content::Run(run) => self.take_run(*run),
            Content::Config(config) => self.take_config(&config),
            Content::Summary(mut summary) => {
                self.shift(&mut summary.update);
                self.summary.update(&summary.update);
                self.summary.remove(&summary.remove);
                self.summary_changed = true;
            }
            Content::History(mut row) => {
                self.shift(&mut row.item);
                return self.take_row(&row).into_iter().collect();
            }
            Content::Stats(stats) => return self.event(&stats).into_iter().collect(),
            Content::OutputRaw(piece) => return self.console.take(&piece).into_iter().map(console_line).collect(),
            Content::Telemetry(bytes) => {
                self.telemetry.extend(bytes);
                self.changed = true;
            }
            Content::Metric(metric) => {
                self.metrics.define(metric);
                self.changed = true;
            }
            Content::Environment(environment) => self.take_environment(*environment),
            Content::Files(files) => return errand(Errand::Files(files.files)),
            Content::Artifact(artifact) => return errand(Errand::Artifact(artifact, self.next_step())),
            Content::UseArtifact(artifact) => return errand(Errand::Use(artifact)),
            Content::Alert(alert) => return errand(Errand::Alert(alert)),
            Content::Exit(exit) => {
                let rest = self.console.end().into_iter().map(console_line);
                return rest.chain([Step::Exit(exit.exit_code)]).collect();
            }
            // What the server does not hear of from a log: the format's own records, TensorBoard, obsolete ones.
            Content::Header(_) | Content::Final(_) | Content::Footer(_) | Content::Request(_) => {}
            Content::Output(_) | Content::OutputLogger(_) | Content::Tensorboard(_) => {}
            Content::Preempting(_) | Content::NoopLinkArtifact(_) => {}
        }
        Vec::new()
    }

    /// The run, once its record came.
    pub(crate) fn run(&self) -> Option<&RunRecord> {
        self.run.as_ref()
    }

    /// Whether something of the run other than lines and summary changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What changed did not get through: it is to be sent again.
    pub(crate) fn set_changed(&mut self) {
        self.changed = true;
    }

    /// Whether there is a change of the run or its summary that was not taken.
    pub(crate) fn has_changes(&self) -> bool {
        self.changed || self.summary_changed
    }

    /// The summary, when it changed since the last call.
    pub(crate) fn take_summary(&mut self) -> Option<String> {
        std::mem::take(&mut self.summary_changed).then(|| self.summary())
    }

    /// The summary as JSON text.
    pub(crate) fn summary(&self) -> String {
        match &self.step {
            // The official `sync` adds the last row's step, too.
            Some(step) if self.summary.get("_step").is_none() => {
                let mut summary = self.summary.clone();
                summary.set(&["_step"], step.clone());
                summary.text()
            }
            _ => self.summary.text(),
        }
    }

    /// The configuration as the server keeps it: each value wrapped.
    pub(crate) fn config(&self) -> Tree {
        let mut wrapped = Tree::default();
        for (key, value) in self.config_values().entries() {
            wrapped.set(&[key, "value"], value);
        }
        wrapped
    }

    /// The configuration by key, W&B's own part among it.
    pub(crate) fn config_values(&self) -> Tree {
        let mut values = self.config.clone();
        let mut internal = Tree::default();
        if let Some(text) = self.config.get("_wandb") {
            internal.set(&["_wandb"], text);
        }
        let mut telemetry = telemetry(&self.telemetry);
        if let Some(members) = telemetry.as_object_mut() {
            members.entry(SENDER.to_string()).or_insert_with(|| sender().into());
        }
        internal.set(&["_wandb", "t"], telemetry.to_string());
        internal.set(&["_wandb", "m"], Value::Array(self.metrics.list()).to_string());
        for (number, key) in [("4", "python_version"), ("5", "cli_version")] {
            if let Some(version) = telemetry.get(number) {
                internal.set(&["_wandb", key], version.to_string());
            }
        }
        if let Some(environment) = self.environment() {
            internal.set(&["_wandb", "e", &self.environment.writer_id], Value::Object(environment).to_string());
        }
        if let Some(point) = self.run.as_ref().and_then(|run| run.branch_point.as_ref()) {
            let point = json!({ "run_id": point.run, "step": point.value as i64 });
            internal.set(&["_wandb", "branch_point"], point.to_string());
        }
        if let Some(internal) = internal.get("_wandb") {
            values.set(&["_wandb"], internal);
        }
        values
    }

    /// The machine and the program, when the log says anything about them.
    pub(crate) fn environment(&self) -> Option<serde_json::Map<String, Value>> {
        Some(environment(&self.environment)).filter(|environment| !environment.is_empty())
    }

    /// What was printed, as the file `output.log` has it; nothing when nothing was.
    pub(crate) fn console_text(&self) -> Option<&str> {
        Some(self.console.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The program that logged.
    pub(crate) fn program(&self) -> Option<&str> {
        Some(self.environment.program.as_str()).filter(|program| !program.is_empty())
    }

    fn take_run(&mut self, run: RunRecord) {
        let changed = self.changed || self.run.is_some() || !self.made;
        if let Some(config) = &run.config {
            self.take_config(config);
        }
        if let Some(summary) = &run.summary {
            self.summary.update(&summary.update);
            self.summary_changed = true;
        }
        self.telemetry.extend(run.telemetry.iter().flatten());
        self.changed = changed;
        self.run = Some(run);
    }

    fn take_config(&mut self, config: &ConfigRecord) {
        self.config.update(&config.update);
        self.config.remove(&config.remove);
        self.changed = true;
    }

    fn shift(&self, items: &mut [Item]) {
        let step = items.iter_mut().find(|item| item.path() == ["_step"]);
        let Some(step) = step.filter(|_| self.first_step > 0) else { return };
        if let Some(sum) = step.json().parse::<u64>().ok().and_then(|step| step.checked_add(self.first_step)) {
            (step.value_json, step.typed) = (sum.to_string(), None);
        }
    }

    fn take_row(&mut self, row: &HistoryRecord) -> Option<Step> {
        let line = tree(&row.item);
        if line.is_empty() {
            return None;
        }
        self.step = line.get("_step").or(self.step.take());
        Some(Step::Line(Stream::History, line.text()))
    }

    /// The step after the last row's.
    fn next_step(&self) -> Option<u64> {
        self.step.as_ref()?.parse::<u64>().ok()?.checked_add(1)
    }

    /// The environment comes in pieces, which protobuf merges.
    fn take_environment(&mut self, piece: EnvironmentRecord) {
        use prost::Message as _;
        // Both are ours, so this can only succeed; what is there is kept otherwise.
        if self.environment.merge(piece.encode_to_vec().as_slice()).is_ok() {
            self.changed = true;
        }
    }

    fn event(&self, stats: &StatsRecord) -> Option<Step> {
        let (time, start) = (stats.timestamp?, self.run.as_ref()?.start_time?);
        let mut line = Tree::default();
        for item in &stats.item {
            line.set(&[&format!("system.{}", item.key)], item.json());
        }
        let seconds = |seconds: f64| Value::from(seconds).to_string();
        line.set(&["_wandb"], "true".to_owned());
        line.set(&["_timestamp"], seconds(time.seconds_f64()));
        line.set(&["_runtime"], seconds(time.since(start)));
        Some(Step::Line(Stream::Events, line.text()))
    }
}

fn tree(items: &[Item]) -> Tree {
    let mut tree = Tree::default();
    tree.update(items);
    tree
}

fn console_line(line: String) -> Step {
    Step::Line(Stream::Console, line)
}

/// Our name and version, as the server is told them.
pub(crate) fn sender() -> &'static str {
    concat!("wandb-pca/", env!("CARGO_PKG_VERSION"))
}

/// Telemetry that names us.
pub(crate) fn own_telemetry() -> Vec<u8> {
    telemetry_text(SENDER, sender())
}

/// Puts the pieces that a program printed together to lines; what follows a carriage return overwrites its line.
#[derive(Debug, Default)]
struct Console {
    /// The line that is not ended yet, for standard error and standard output, and when it began.
    open: [Option<(String, Option<Timestamp>)>; 2],
    /// Every line so far, for the file.
    text: String,
}

impl Console {
    fn take(&mut self, piece: &OutputRawRecord) -> Vec<String> {
        let output = usize::from(piece.output_type != 0);
        let mut lines = Vec::new();
        for part in piece.line.split_inclusive('\n') {
            let Some(open) = self.open.get_mut(output) else { break };
            let (text, time) = open.get_or_insert_with(|| (String::new(), piece.timestamp));
            text.push_str(part.trim_end_matches('\n'));
            if part.ends_with('\n') {
                let (text, time) = (std::mem::take(text), *time);
                *open = None;
                lines.push(self.line(output, &text, time));
            }
        }
        lines
    }

    /// What was left without a line's end.
    fn end(&mut self) -> Vec<String> {
        let open = [1, 0].map(|output| (output, self.open.get_mut(output).and_then(Option::take)));
        open.into_iter().filter_map(|(output, open)| open.map(|(text, time)| self.line(output, &text, time))).collect()
    }

    fn line(&mut self, output: usize, text: &str, time: Option<Timestamp>) -> String {
        let shown = text.trim_end_matches('\r');
        let shown = shown.rsplit('\r').next().unwrap_or(shown);
        self.text.push_str(shown);
        self.text.push('\n');
        let time = time.unwrap_or_default();
        let time = jiff::Timestamp::new(time.seconds, time.nanos).unwrap_or_default();
        let level = if output == 0 { "ERROR " } else { "" };
        format!("{level}{} {shown}", time.strftime("%Y-%m-%dT%H:%M:%S.%6f"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::{Framed, Unframer};
    use super::super::record::{ExitRecord, SummaryRecord, Typed};
    use super::*;
    use prost::Message as _;

    fn fixture() -> (Assembly, Vec<Step>) {
        let mut unframer = Unframer::default();
        unframer.push(include_bytes!("../../../fixtures/offline/sdk-0.31.wandb"));
        let (mut assembly, mut steps) = (Assembly::default(), Vec::new());
        while let Some(Framed::Record { bytes, .. }) = unframer.next() {
            steps.extend(assembly.take(Record::decode(bytes.as_slice()).unwrap()));
        }
        (assembly, steps)
    }

    #[test]
    fn a_log_of_the_sdk_adds_up_to_its_run() {
        let (mut assembly, steps) = fixture();
        let rows: Vec<&String> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Line(Stream::History, line) => Some(line),
                _ => None,
            })
            .collect();
        assert_eq!(rows.len(), 4);
        assert!(rows[0].contains(r#""nested":{"x":0},"odd":NaN,"text":"ü","truth":true"#), "{}", rows[0]);
        let errands: Vec<&Errand> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Errand(_, errand) => Some(errand),
                _ => None,
            })
            .collect();
        assert!(matches!(errands[0], Errand::Artifact(table, Some(3)) if table.kind == "run_table"));
        assert!(matches!(errands[1], Errand::Files(files) if files.len() == 1));
        assert!(matches!(errands[3], Errand::Alert(_)));
        assert!(
            steps.iter().any(|step| matches!(step, Step::Line(Stream::Console, line) if line.ends_with(" a line")))
        );
        assert_eq!(steps.last(), Some(&Step::Exit(0)));
        let config: Value = serde_json::from_str(&assembly.config().text()).unwrap();
        assert_eq!(config["lr"], json!({ "value": 0.25 }));
        assert_eq!((&config["nested"]["value"]["a"], &config["later"]["value"]), (&json!([1, null]), &json!(7)));
        let own = &config["_wandb"]["value"];
        assert_eq!((&own["cli_version"], &own["t"]["4"]), (&json!("0.31.0"), &json!("3.11.7")));
        assert!(own["t"]["3"].as_array().unwrap().contains(&json!(4)));
        assert_eq!(own["m"][0], json!({ "1": "loss", "6": [3], "7": [1] }));
        let summary = assembly.take_summary().unwrap();
        assert!(summary.contains(r#""best":3"#) && summary.contains(r#""loss":{"min":0.333"#), "{summary}");
        assert_eq!((assembly.take_summary(), assembly.take_changed(), assembly.take_changed()), (None, true, false));
        assert_eq!(assembly.console_text(), Some("a line\n"));
    }

    fn take(assembly: &mut Assembly, content: Content) -> Vec<Step> {
        assembly.take(Record { num: 1, control: None, content: Some(content) })
    }

    #[test]
    fn a_run_that_was_made_is_made_again_only_when_it_changes() {
        let run = || Content::Run(Box::new(RunRecord { run_id: "r".to_owned(), ..RunRecord::default() }));
        let mut assembly = Assembly::of_made_run();
        take(&mut assembly, run());
        assert!(!assembly.take_changed());
        take(&mut assembly, Content::Config(ConfigRecord::default()));
        assert!(assembly.take_changed());
        take(&mut assembly, run());
        assert!(assembly.take_changed());
    }

    #[test]
    fn printed_pieces_become_lines() {
        let mut assembly = Assembly::default();
        let time = Some(Timestamp { seconds: 1_700_000_000, nanos: 5_000 });
        let mut print = |output_type, line: &str| {
            let piece = OutputRawRecord { output_type, timestamp: time, line: line.to_owned() };
            take(&mut assembly, Content::OutputRaw(piece))
        };
        let stamp = "2023-11-14T22:13:20.000005";
        assert_eq!(print(1, "par"), []);
        assert_eq!(print(0, "bad\n"), [console_line(format!("ERROR {stamp} bad"))]);
        assert_eq!(print(1, "t 10 %\rpart 20 %\r\nnext"), [console_line(format!("{stamp} part 20 %"))]);
        let end = take(&mut assembly, Content::Exit(ExitRecord { exit_code: 3, runtime: 0 }));
        assert_eq!(end, [console_line(format!("{stamp} next")), Step::Exit(3)]);
        assert_eq!(assembly.console_text(), Some("bad\npart 20 %\nnext\n"));
    }

    #[test]
    fn a_log_goes_on_where_the_run_was() {
        let config = serde_json::Map::from_iter([("lr".to_owned(), json!(1)), ("old".to_owned(), json!(2))]);
        let summary = serde_json::Map::from_iter([("best".to_owned(), json!(3)), ("odd".to_owned(), Value::Null)]);
        let mut assembly = Assembly::going_on(&Past { config, summary, step: 7, ..Past::default() }, 7);
        let update = vec![Item::new("lr", "5")];
        let config = Some(ConfigRecord { update, remove: Vec::new() });
        take(&mut assembly, Content::Run(Box::new(RunRecord { config, ..RunRecord::default() })));
        let row = |step| HistoryRecord { item: vec![Item::new("_runtime", "1.5"), step], step: None };
        let typed = Item { key: "_step".to_owned(), typed: Some(Typed::Integer(1)), ..Item::default() };
        for (step, line) in [(Item::new("_step", "0"), 7), (typed, 8)] {
            let line = format!(r#"{{"_runtime":1.5,"_step":{line}}}"#);
            assert_eq!(take(&mut assembly, Content::History(row(step))), [Step::Line(Stream::History, line)]);
        }
        let update = vec![Item::new("_step", "1"), Item::new("x", "1")];
        take(&mut assembly, Content::Summary(SummaryRecord { update, remove: vec![] }));
        assert_eq!(assembly.take_summary().unwrap(), r#"{"_step":8,"best":3,"x":1}"#);
        let config: Value = serde_json::from_str(&assembly.config().text()).unwrap();
        assert_eq!((&config["lr"]["value"], &config["old"]["value"]), (&json!(5), &json!(2)));
    }

    #[test]
    fn a_summary_without_a_step_gets_the_last_rows() {
        let mut assembly = Assembly::default();
        let row = HistoryRecord { item: vec![Item::new("a", "1"), Item::new("_step", "7")], step: None };
        assert_eq!(
            take(&mut assembly, Content::History(row)),
            [Step::Line(Stream::History, r#"{"_step":7,"a":1}"#.to_owned())]
        );
        take(&mut assembly, Content::Summary(SummaryRecord { update: vec![Item::new("a", "1")], remove: vec![] }));
        assert_eq!(assembly.take_summary().unwrap(), r#"{"_step":7,"a":1}"#);
        assert_eq!(take(&mut assembly, Content::History(HistoryRecord::default())), []);
    }
}
