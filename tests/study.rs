//! A study of 2 models × 3 datasets × 5 seeds on the embedded server, through the command: undisturbed, killed at random
//! moments and run again, sharded and reduced. `STUDY_KILLS=50 cargo test --test study killed -- --nocapture` kills more.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may end loudly")]

#[path = "support/experiment.rs"]
mod experiment;
#[path = "support/kill.rs"]
mod kill;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use experiment::{World, computed_once, json, ledger, write_checkpoint};
use kill::Killer;

#[test]
fn a_study_from_init_to_status() {
    let world = World::new();
    world.run("cache", &["study", "init", "lab/vectors", "--out", "found.yaml"]);
    let plan = json(&world.run("cache", &["--json", "study", "plan", "found.yaml"]));
    assert_eq!(plan["plan"]["cells"].as_array().unwrap().len(), 6);
    assert_eq!(plan["todo"], 8);
    assert!(plan["estimate"]["fetch_bytes"].as_u64().unwrap() > 0);
    let first = json(&world.run("cache", &["--json", "study", "run", "study.yaml", "--out", "whole"]));
    assert_eq!((first["computed"].as_u64(), first["runs"].as_array().map(Vec::len)), (Some(8), Some(7)));
    let again = json(&world.run("cache", &["--json", "study", "run", "study.yaml", "--out", "whole"]));
    assert_eq!((again["computed"].as_u64(), again["runs"].as_array().map(Vec::len)), (Some(0), Some(0)));
    let status = json(&world.run("cache", &["--json", "study", "status", "study.yaml", "--out", "whole"]));
    assert_eq!(status["done"], 8);
    // Nobody is asked for that.
    let alone = world.command("cache", &["study", "status", "study.yaml", "--out", "whole"]);
    let alone = { alone }.env("WANDB_BASE_URL", "http://127.0.0.1:9").output().unwrap();
    assert!(String::from_utf8_lossy(&alone.stdout).ends_with("8 of 8 tasks done\n"), "{alone:?}");
    let cells = fs::read_to_string(world.path("whole/cells.csv")).unwrap();
    assert_eq!(cells.lines().count(), 7, "{cells}");
    assert_eq!(fs::read_to_string(world.path("whole/datasets.csv")).unwrap().lines().count(), 13);

    // Offline shards by hand, in any order, reduce to the same bits; two of them at the same time.
    world.run("cache", &["study", "prefetch", "study.yaml", "--out", "parts"]);
    let shard = |part: &str| {
        let arguments = ["--offline", "study", "shard", "study.yaml", part, "--out", "parts"];
        world.command("cache", &arguments).stdout(Stdio::null()).spawn().unwrap()
    };
    for pair in [["5/5", "2/5"], ["1/5", "4/5"]] {
        for mut child in pair.map(shard) {
            assert!(child.wait().unwrap().success());
        }
    }
    let early = world.command("cache", &["--offline", "study", "reduce", "study.yaml", "--out", "parts"]);
    assert_eq!({ early }.output().unwrap().status.code(), Some(7));
    assert!(shard("3/5").wait().unwrap().success());
    world.run("cache", &["--offline", "study", "reduce", "study.yaml", "--out", "parts"]);
    assert_eq!(world.numbers("parts"), world.numbers("whole"));

    // A checkpoint that is gone: refused, or left out, as the file says.
    let text = fs::read_to_string(world.path("study.yaml")).unwrap().replace("0..4", "0..5");
    fs::write(world.path("more.yaml"), format!("{text}missing: fail\n")).unwrap();
    let refused = world.command("cache", &["study", "run", "more.yaml"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    fs::write(world.path("more.yaml"), format!("{text}missing: skip-seed\nminimum_seeds: 5\n")).unwrap();
    let skipped = json(&world.run("cache", &["--json", "study", "plan", "more.yaml", "--out", "whole"]));
    assert_eq!(
        (skipped["todo"].as_u64(), skipped["plan"]["skipped_seeds"].as_array().map(Vec::len)),
        (Some(0), Some(6))
    );
    fs::write(world.path("wrong.yaml"), "name: x\nmodles: [a]\n").unwrap();
    let wrong = world.command("cache", &["study", "plan", "wrong.yaml"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("line 2, column 1"), "{wrong:?}");
}

#[test]
fn two_workers_share_one_folder() {
    let world = World::new();
    let arguments = ["--json", "study", "run", "study.yaml", "--out", "shared", "--no-log"];
    let workers = [0, 1].map(|_| world.command("cache", &arguments).stdout(Stdio::piped()).spawn().unwrap());
    let computed: u64 = workers
        .into_iter()
        .map(|worker| {
            let output = worker.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            json(&output)["computed"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(computed, 8);
    for (task, (begun, done)) in ledger(&world.path("shared")) {
        assert_eq!((begun, done), (1, 1), "{task}");
    }
}

#[test]
fn what_is_missing_is_treated_as_the_file_says() {
    let world = World::of_files();
    let text = fs::read_to_string(world.path("files.yaml")).unwrap();
    fs::remove_file(world.checkpoint("small_DTD_4")).unwrap();
    let plan = |name: &str, policy: &str| {
        fs::write(world.path(name), format!("{text}{policy}\n")).unwrap();
        json(&world.run("cache", &["--json", "study", "plan", name]))
    };
    let counts = |plan: &serde_json::Value| {
        let of = |name: &str| plan["plan"][name].as_array().unwrap().len();
        (of("cells"), of("joints"), of("skipped"), of("skipped_seeds"), plan["runnable"].as_bool().unwrap())
    };
    assert_eq!(counts(&plan("fail.yaml", "missing: fail")), (5, 2, 1, 0, false));
    assert_eq!(counts(&plan("cell.yaml", "missing: skip-cell")), (5, 2, 1, 0, true));
    assert_eq!(counts(&plan("seed.yaml", "missing: skip-seed\nminimum_seeds: 4")), (6, 2, 0, 1, true));
    assert_eq!(counts(&plan("least.yaml", "missing: skip-seed\nminimum_seeds: 5")), (5, 2, 1, 0, true));
    for (name, code, computed) in [("fail", 3, None), ("cell", 0, Some(7)), ("seed", 0, Some(8))] {
        let run = ["--json", "study", "run", &format!("{name}.yaml"), "--no-log", "--out", name];
        let output = world.command("cache", &run).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert_eq!(computed, computed.map(|_| json(&output)["computed"].as_u64().unwrap()), "{name}");
    }
    let seeds = fs::read_to_string(world.path("seed/cells.csv")).unwrap();
    assert!(seeds.contains("small,DTD,4,") && seeds.contains("small,SVHN,5,"), "{seeds}");
}

#[test]
fn files_are_looked_at_again_without_a_server() {
    let world = World::of_files();
    let all = fs::read_to_string(world.path("files.yaml")).unwrap();
    let computed = || {
        let run =
            world.run("cache", &["--json", "--offline", "study", "run", "files.yaml", "--no-log", "--out", "out"]);
        json(&run)["computed"].as_u64().unwrap()
    };
    fs::write(world.path("files.yaml"), all.replace("seeds: 0..4", "seeds: 0..2")).unwrap();
    assert_eq!((computed(), computed()), (8, 0));
    fs::write(world.path("files.yaml"), &all).unwrap();
    assert_eq!(computed(), 8, "two more seeds");
    write_checkpoint(&world.checkpoint("tiny_DTD_4"), 4, 77);
    assert_eq!(computed(), 2, "another file");
    let seeds = fs::read_to_string(world.path("out/cells.csv")).unwrap();
    assert!(seeds.contains("tiny,DTD,5,"), "{seeds}");
}

#[test]
fn failed_cells_are_counted_tried_again_and_mended() {
    let world = World::of_files();
    let whole = json(&world.run("cache", &["--json", "study", "run", "files.yaml", "--no-log", "--out", "whole"]));
    assert_eq!(whole["computed"], 8);
    let broken = ["tiny_CIFAR100_0", "small_SVHN_3"].map(|name| world.checkpoint(name));
    let good = broken.clone().map(|path| fs::read(path).unwrap());
    for path in &broken {
        fs::write(path, b"not a checkpoint").unwrap();
    }
    let run = |out: &str, options: &[&str]| {
        let all = [&["--json", "study", "run", "files.yaml", "--no-log", "--out", out], options].concat();
        let output = world.command("cache", &all).output().unwrap();
        (output.status.code(), json(&output))
    };
    let (code, gave_up) = run("few", &["--max-failures", "1"]);
    assert_eq!((code, gave_up["too_many_failures"].as_bool()), (Some(7), Some(true)));
    assert_eq!((gave_up["computed"].as_u64(), gave_up["failed"].as_array().map(Vec::len)), (Some(0), Some(1)));
    let (code, most) = run("mended", &["--retries", "1"]);
    assert_eq!((code, most["computed"].as_u64(), most["too_many_failures"].as_bool()), (Some(7), Some(4), Some(false)));
    let mut failed: Vec<_> =
        most["failed"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["small+joint", "small@SVHN", "tiny+joint", "tiny@CIFAR100"]);
    let tried = ledger(&world.path("mended"));
    assert_eq!((tried["tiny@CIFAR100"], tried["tiny@DTD"]), ((2, 0), (1, 1)));
    for (path, bytes) in broken.iter().zip(good) {
        fs::write(path, bytes).unwrap();
    }
    let (code, mended) = run("mended", &[]);
    assert_eq!((code, mended["computed"].as_u64(), mended["before"].as_u64()), (Some(0), Some(4), Some(4)));
    assert_eq!(world.numbers("mended"), world.numbers("whole"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_study_in_order() {
    let world = World::of_files();
    world.run("cache", &["study", "run", "files.yaml", "--no-log", "--out", "whole"]);
    // Whoever has this task keeps the study waiting, after everything else is done.
    fs::create_dir_all(world.path("stopped/ledger")).unwrap();
    let held = fs::File::create(world.path("stopped/ledger/tiny@DTD.jsonl")).unwrap();
    held.lock().unwrap();
    let run = ["--json", "study", "run", "files.yaml", "--no-log", "--out", "stopped"];
    let child = world.command("cache", &run).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while ledger(&world.path("stopped")).values().filter(|(_, done)| *done == 1).count() < 7 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{stopped:?}");
    drop(held);
    let rest = json(&world.run("cache", &run));
    assert_eq!((rest["computed"].as_u64(), rest["before"].as_u64()), (Some(1), Some(7)));
    assert_eq!(world.numbers("stopped"), world.numbers("whole"));
}

#[test]
fn killed_at_any_moment_and_run_again() {
    let kills: u32 = std::env::var("STUDY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let world = World::new();
    let run = |cache: &str, out: &str| world.command(cache, &["study", "run", "study.yaml", "--out", out]);
    let mut killer = Killer::new(kills, || run("cache-whole", "whole"));
    let expected = world.numbers("whole");
    while !killer.is_done() {
        // A fresh folder and cache each time; some rounds are killed several times before they end.
        let round = killer.begin_round();
        let (out, cache) = (format!("killed-{round}"), format!("cache-{round}"));
        killer.run_to_the_end(|| run(&cache, &out));
        assert_eq!(world.numbers(&out), expected, "round {round}");
        computed_once(&world.path(&out));
        let again = json(&world.run(&cache, &["--json", "study", "run", "study.yaml", "--out", &out]));
        assert_eq!(again["computed"], 0, "round {round}");
    }
    println!("{killer}");
}
