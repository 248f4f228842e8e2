//! A run's folder that another run is at work in, that is damaged, changed, gone, or a person's own.

use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::interrupted::{OFTEN, SHORT, assert_same, await_checkpoint, checkpoints, start};
use super::{Home, fails, say};

/// A run whose teacher is finished and whose students' learning rate leads nowhere.
const DIVERGING: &str =
    "run tiny.toml -q --set teacher.train.epochs=2 --set train.optimizer.lr=1e30";
/// Goes on with it.
const MENDED: &str = "--set train.optimizer.lr=0.05 --accept-changes";

/// Waits until a file is there.
fn await_file(home: &Home, name: &str, child: &mut Child) {
    let start = Instant::now();
    while !home.path(name).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without {name}");
        assert!(start.elapsed() < Duration::from_secs(120), "there is no {name}");
        sleep(Duration::from_millis(2));
    }
}

/// What a command said on stderr, which must succeed.
fn notes(home: &Home, arguments: &str) -> String {
    let said = say(home.command(arguments));
    assert_eq!(said.code, Some(0), "{arguments}: {said:?}");
    said.err
}

fn copy_folder(home: &Home, from: &str, to: &str) {
    let paths = home.paths().into_iter().filter(|path| path.starts_with(home.path(from)));
    for path in paths.collect::<Vec<_>>() {
        let name = path.strip_prefix(home.path(from)).unwrap().to_string_lossy().into_owned();
        home.write(&format!("{to}/{name}"), fs::read(path).unwrap());
    }
}

/// Every kind of damage to a file's bytes.
fn damages(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    vec![
        ("cut short", bytes[..bytes.len() - 2].to_vec()),
        ("empty", Vec::new()),
        ("zeros", vec![0; bytes.len()]),
        ("a bit of its head", flipped(12)),
        ("a bit of its body", flipped(bytes.len() - 7)),
    ]
}

#[test]
fn a_folder_at_work_is_nobody_elses() {
    let home = Home::new();
    let mut child = start(home.command(&format!("run --device cpu {SHORT} --out a")));
    await_file(&home, "a/metrics.jsonl", &mut child);
    let process = format!("a: process {}", child.id());
    for command in [
        "run tiny.toml --out a",
        "run tiny.toml --out a --force",
        "run --resume a",
        "sweep tiny.toml --seeds 2 --out a",
        "sweep tiny.toml --seeds 2 --out a --force",
    ] {
        fails(home.command(&format!("{command} -q")), &[&process, "has been at work in it for"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock died with the process, whatever is left of its file.
    home.done("run --resume a -q");
    assert!(!home.path("a/.distil-gpu.lock").exists());

    let sweep = "sweep tiny.toml --device cpu --set train.epochs=200 --seeds 3 --out b";
    let mut child = start(home.command(sweep));
    await_file(&home, "b/grid.json", &mut child);
    let process = format!("b: process {}", child.id());
    for command in ["sweep --resume b", "run tiny.toml --out b --force"] {
        fails(home.command(&format!("{command} -q")), &[&process]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let of_sweep = ["b: this is the folder of a sweep", "sweep --resume b"];
    fails(home.command("run --resume b -q"), &of_sweep);
}

#[test]
fn runs_that_begin_at_once_have_folders_of_their_own() {
    let home = Home::new();
    // What a killed run may leave before it has written anything is no run.
    home.write("runs/tiny/.distil-gpu.lock", "");
    home.write("runs/tiny/.distil-gpu-x1", "half");
    let mut children: Vec<Child> =
        (0..4).map(|_| start(home.command("run tiny.toml -q"))).collect();
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    for name in ["tiny", "tiny-2", "tiny-3", "tiny-4"] {
        assert_same(&home, &format!("runs/{name}"), "runs/tiny");
        assert!(home.path(&format!("runs/{name}/report.json")).exists());
    }
    let left: Vec<_> = home
        .paths()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(".distil"))
        .collect();
    assert!(left.is_empty() && !home.path("runs/tiny-5").exists(), "{left:?}");
    // A run that is refused leaves no folder.
    home.refused("run tiny.toml --out x/y --set data.source=\"idx\"", &["train_images"]);
    assert!(!home.path("x").exists());
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let home = Home::new();
    let command = format!("run --device cpu {SHORT}");
    home.done(&format!("{command} -q --out whole"));
    // A busy machine may look away while there are two.
    let begin = |_| {
        let mut child = start(home.command(&format!("{command} {OFTEN} --out killed --force")));
        let mut trains = true;
        while trains && checkpoints(&home, "killed").len() < 2 {
            trains = await_checkpoint(&home, "killed", &mut child);
        }
        trains.then_some(child)
    };
    let mut child = (0..10).find_map(begin).expect("a training with two checkpoints");
    child.kill().unwrap();
    child.wait().unwrap();
    let step = |name: &String| name.split('-').nth(1).unwrap().parse::<u32>().unwrap();
    let names = checkpoints(&home, "killed");
    let newest = names.iter().max_by_key(|name| step(name)).unwrap();
    let bytes = home.read(&format!("killed/checkpoints/{newest}"));
    for (number, (what, damaged)) in damages(&bytes).into_iter().enumerate() {
        let run = format!("run-{number}");
        copy_folder(&home, "killed", &run);
        home.write(&format!("{run}/checkpoints/{newest}"), damaged);
        let said = notes(&home, &format!("run --resume {run}"));
        let told = format!("The checkpoint {run}/checkpoints/{newest} is damaged");
        assert!(
            said.contains(&told) && said.contains("the one before it, of step"),
            "{what}: {said}"
        );
        assert_same(&home, &run, "whole");
        assert!(!home.path(&format!("{run}/checkpoints")).exists(), "{what}");
    }
    for name in &names {
        home.write(&format!("killed/checkpoints/{name}"), "");
    }
    let said = notes(&home, "run --resume killed");
    assert!(said.contains("there is none before it, so the teacher begins anew"), "{said}");
    assert_same(&home, "killed", "whole");
}

#[test]
fn a_damaged_model_that_was_finished_is_made_again() {
    let home = Home::new();
    fails(home.command(&format!("{DIVERGING} --out begun")), &["diverged (NaN or Inf)"]);
    copy_folder(&home, "begun", "whole");
    home.done(&format!("run --resume whole -q {MENDED}"));
    for file in ["model.safetensors", "config.json"] {
        let bytes = home.read(&format!("begun/teacher/{file}"));
        for (number, (what, damaged)) in damages(&bytes).into_iter().enumerate() {
            let run = format!("{file}-{number}");
            copy_folder(&home, "begun", &run);
            home.write(&format!("{run}/teacher/{file}"), damaged);
            let said = notes(&home, &format!("run --resume {run} {MENDED}"));
            let told =
                format!("{run}/teacher/{file} is damaged or gone: the teacher is made again");
            assert!(said.contains(&told), "{what}: {said}");
            assert_same(&home, &run, "whole");
        }
    }
}

#[test]
fn a_damaged_journal_has_a_copy() {
    let home = Home::new();
    fails(home.command(&format!("{DIVERGING} --out begun")), &["diverged (NaN or Inf)"]);
    copy_folder(&home, "begun", "whole");
    home.done(&format!("run --resume whole -q {MENDED}"));
    let [journal, copy] = ["journal.json", "checkpoints/journal.json"];
    assert!(home.read(&format!("begun/{journal}")) == home.read(&format!("begun/{copy}")));
    let bytes = home.read("begun/journal.json");
    for (number, (what, damaged)) in damages(&bytes).into_iter().enumerate() {
        let run = format!("run-{number}");
        copy_folder(&home, "begun", &run);
        home.write(&format!("{run}/{journal}"), &damaged);
        let said = notes(&home, &format!("run --resume {run} {MENDED}"));
        let told = format!("{run}/journal.json is damaged");
        assert!(said.contains(&told) && said.contains("its copy is used"), "{what}: {said}");
        assert_same(&home, &run, "whole");

        let run = format!("both-{number}");
        copy_folder(&home, "begun", &run);
        for name in [journal, copy] {
            home.write(&format!("{run}/{name}"), &damaged);
        }
        let told = format!("{run}/journal.json: the journal is damaged");
        home.refused(&format!("run --resume {run}"), &[&told, "begin anew"]);
        home.refused(&format!("run tiny.toml --force --out {run}"), &[&told]);
    }
}

#[test]
fn an_edited_recipe_is_not_resumed_in_silence() {
    let home = Home::new();
    home.write("data/train.csv", "a,b,label\n0,0,x\n1,1,y\n0,1,x\n1,0,y\n");
    home.write("data/test.csv", "a,b,label\n0,0,x\n1,1,y\n");
    let data = "--set data={source=\"csv\",train=\"data/train.csv\",test=\"data/test.csv\",label=\"label\"}";
    fails(home.command(&format!("{DIVERGING} {data} --out a")), &["diverged (NaN or Inf)"]);
    let recipe = String::from_utf8(home.read("a/recipe.toml")).unwrap();
    for (old, new, told) in [
        ("seed = 0", "seed = 4", "seed: 0 → 4"),
        ("epochs = 2", "epochs = 3", "train.epochs: 2 → 3"),
        ("hidden_sizes = [8]", "hidden_sizes = [9]", "student.model.hidden_sizes: [8] → [9]"),
        ("alpha = 0.9", "alpha = 0.8", "distil.alpha: 0.9 → 0.8"),
    ] {
        assert!(recipe.contains(old), "{old}: {recipe}");
        home.write("a/recipe.toml", recipe.replace(old, new));
        home.refused("run --resume a", &["a: the recipe has changed", told, "--accept-changes"]);
    }
    home.write("a/recipe.toml", &recipe);
    home.refused(
        "run --resume a --set seed=4 --set train.batch=9",
        &["seed: 0 → 4; train.batch: 32 → 9"],
    );
    let train = home.read("data/train.csv");
    home.write("data/train.csv", "a,b,label\n0,0,x\n1,1,y\n0,1,x\n0.5,0,y\n");
    let changed = ["a: the data have changed", "the training data", "--accept-changes"];
    home.refused("run --resume a", &changed);
    home.write("data/train.csv", &train);
    // What changes no result is free.
    let free = "--set checkpoint_seconds=5 --set tensorboard=true --set name=\"x\" --set target.retain=0.01";
    fails(home.command(&format!("run --resume a -q {free}")), &["diverged (NaN or Inf)"]);
    // Of two test rows the teacher knows no more than a constant answer does, and misses the target.
    assert_eq!(
        say(home.command(&format!("run --resume a -q {MENDED} --set seed=4"))).code,
        Some(3)
    );
    let report = home.json("a/report.json");
    let warning = report["warnings"][0].as_str().unwrap();
    let wanted = "the recipe has changed: seed: 0 → 4; train.optimizer.lr: 1e30 → 0.05; trained before: the teacher";
    assert!(warning.contains(wanted), "{warning}");
    assert_eq!(say(home.command("run tiny.toml --accept-changes")).code, Some(2));
}

#[test]
fn force_removes_what_a_run_wrote_and_nothing_else() {
    let home = Home::new();
    home.write("mine/checkpoints/model.pt", "a year's work");
    home.write("mine/teacher/model.safetensors", "mine too");
    let command = "run tiny.toml --force --out mine";
    home.refused(command, &["mine: holds files, and no journal says"]);
    home.refused(
        "sweep tiny.toml --seeds 2 --force --out mine",
        &["mine: holds files, and no journal"],
    );

    home.done("run tiny.toml -q --out a --set tensorboard=true");
    let person = [
        "a/notes.txt",
        "a/teacher/notes.txt",
        "a/checkpoints/epoch-3.pt",
        "a/tensorboard/teacher/mine",
    ];
    person.iter().for_each(|name| home.write(name, "mine"));
    home.write("a/.distil-gpu-Ab12", "half");
    home.write("a/student/.distil-gpu-Cd34/model.safetensors", "half");
    let list = |home: &Home| {
        let mut paths = home.paths();
        paths.retain(|path| {
            path.starts_with(home.path("a")) && !path.to_string_lossy().contains("tfevents")
        });
        paths.sort();
        paths
    };
    home.done("run tiny.toml -q --out a --force --seed 1");
    person.iter().for_each(|name| assert_eq!(home.read(name), b"mine", "{name}"));
    let after = list(&home);
    assert!(!after.iter().any(|path| path.to_string_lossy().contains(".distil-gpu")), "{after:?}");
    assert!(
        !home
            .path("a/tensorboard/teacher")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("tfevents") })
    );

    // A run gives way to a sweep, and a sweep to a run.
    home.done("sweep tiny.toml -q --seeds 2 --out a --force");
    assert!(!home.path("a/report.json").exists() && !home.path("a/control").exists());
    home.write("a/students/001/mine", "mine");
    home.done("run tiny.toml -q --out a --force --seed 1");
    let mut wanted = after;
    wanted.push(home.path("a/students/001/mine"));
    wanted.sort();
    assert_eq!(list(&home), wanted);

    // What stands where a model of the run stood is not the run's.
    home.write("a/student/model.safetensors", "trained for another week");
    let altered = ["a/student/model.safetensors: it is not as the run", "move it away"];
    home.refused("run tiny.toml --out a --force", &altered);
    fs::remove_file(home.path("a/student/model.safetensors")).unwrap();
    home.done("run tiny.toml -q --out a --force");
}

#[cfg(unix)]
#[test]
fn a_folder_that_vanishes_is_noticed_soon() {
    for replaced in [false, true] {
        let home = Home::new();
        let mut command = home.command(&format!("run -q --device cpu {SHORT} {OFTEN} --out a"));
        command.args(["--set", "teacher.train.epochs=400"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        assert!(await_checkpoint(&home, "a", &mut child));
        fs::rename(home.path("a"), home.path("moved")).unwrap();
        if replaced {
            fs::create_dir(home.path("a")).unwrap();
        }
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        println!("noticed after {:.1} s: {said}", begun.elapsed().as_secs_f64());
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("since this began") && said.contains("can be saved"), "{said}");
        let left = home.paths();
        assert!(!left.iter().any(|path| path.starts_with(home.path("a"))), "{left:?}");
        // What was saved before goes on where it is now.
        home.done("run --resume moved -q --set teacher.train.epochs=3 --accept-changes");
    }
}

#[test]
fn what_a_sweep_made_otherwise_is_made_again() {
    let home = Home::new();
    let sweep = "sweep tiny.toml -q --device cpu --set distil.alpha=0.3,0.9";
    home.done(&format!("{sweep} --out a"));
    home.done(&format!("{sweep} --out other --set train.epochs=3"));
    let model = |place: &str| home.read(&format!("{place}/model.safetensors"));
    let places = ["teacher", "controls/001", "students/001", "students/002"];
    let before = places.map(|place| model(&format!("a/{place}")));
    // A damaged student is made again, to the same bytes.
    home.write("a/students/001/model.safetensors", "damaged");
    let said = notes(&home, "sweep --resume a");
    assert!(said.contains("a/students/001/model.safetensors is damaged or gone"), "{said}");
    home.write("a/students/002/result.json", "{}");
    let said = notes(&home, "sweep --resume a");
    assert!(said.contains("a/students/002/result.json is damaged"), "{said}");
    assert!(places.map(|place| model(&format!("a/{place}"))) == before);

    let recipe = String::from_utf8(home.read("a/recipe.toml")).unwrap();
    let edited = recipe.replace("epochs = 2", "epochs = 3");
    assert!(edited != recipe, "{recipe}");
    home.write("a/recipe.toml", edited);
    home.refused("sweep --resume a", &["a: the recipe has changed", "train.epochs: 2 → 3"]);
    home.done("sweep --resume a -q --accept-changes");
    for place in places {
        assert!(model(&format!("a/{place}")) == model(&format!("other/{place}")), "{place}");
    }
    let warnings = &home.json("a/sweep.json")["warnings"];
    assert!(
        warnings[0].as_str().is_some_and(|said| said.contains("train.epochs: 2 → 3")),
        "{warnings}"
    );
    let grid = String::from_utf8(home.read("a/grid.json")).unwrap();
    home.write("a/grid.json", grid.replace("0.9", "0.8"));
    home.refused(
        "sweep --resume a",
        &["the grid: distil.alpha=0.3,0.9 seeds=1 → distil.alpha=0.3,0.8 seeds=1"],
    );
}

/// A cache of a teacher's answers is for the rows that it answers, in their order.
#[test]
fn cached_answers_are_for_their_rows_alone() {
    let home = Home::new();
    let table = |rows: &[usize]| {
        let row =
            |&row: &usize| format!("{},{},{}\n", row % 7, row * row % 11, ["x", "y"][row % 2]);
        format!("a,b,label\n{}", rows.iter().map(row).collect::<String>())
    };
    let rows: Vec<usize> = (0..40).collect();
    let swapped: Vec<usize> = [&[1, 0][..], &rows[2..]].concat();
    home.write("train.csv", table(&rows));
    home.write("test.csv", table(&rows[5..25]));
    let recipe = super::TINY.replace(
        "source = \"embedded\"\ntrain_limit = 200\ntest_limit = 100",
        "source = \"csv\"\ntrain = \"train.csv\"\ntest = \"test.csv\"\nlabel = \"label\"",
    );
    home.write("table.toml", &recipe);
    home.done("run table.toml -q --out a");
    home.done("logits a/teacher --input table.toml --out answers.safetensors --device cpu -q");
    home.write(
        "cached.toml",
        recipe.replace(
            "model = { type = \"mlp\", hidden_sizes = [32] }",
            "logits = \"answers.safetensors\"",
        ),
    );
    let run = "run cached.toml --out";
    let said = notes(&home, &format!("{run} b"));
    assert!(!said.contains("could not be checked"), "{said}");
    // What is held out for validation changes nothing.
    home.done(&format!("{run} c -q --set data.validation=0.25"));

    home.write("train.csv", table(&swapped));
    let order =
        ["answers.safetensors: `train`: example 0 of the data", "is example 1 of these answers"];
    home.refused(&format!("{run} d"), &order);
    home.refused("sweep cached.toml --seeds 2 --out d", &order);
    home.write("train.csv", table(&rows).replace("0,0,x", "0,10,x"));
    home.refused(
        &format!("{run} d"),
        &["`train`: example 0 of the data", "is none that these answers are of"],
    );
    home.write("train.csv", table(&rows));
    home.write("test.csv", table(&rows[6..26]));
    home.refused(&format!("{run} d"), &["`test`: example"]);
    home.write("test.csv", table(&rows[5..25]));

    let mut bytes = home.read("answers.safetensors");
    let last = bytes.len() - 9;
    bytes[last] ^= 2;
    home.write("answers.safetensors", bytes);
    home.refused(&format!("{run} d"), &["answers.safetensors: the answers are damaged"]);
    let zeros = vec![0.5; 80];
    home.write_f32(
        "answers.safetensors",
        &[("train", &[40, 2], &zeros), ("test", &[20, 2], &zeros[..40])],
    );
    let said = notes(&home, &format!("{run} e"));
    assert!(said.contains("answers.safetensors does not say what it answers"), "{said}");
}
