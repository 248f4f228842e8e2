//! Models of the hub, from a hub on loopback.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::{HAND_CONFIG, HAND_WEIGHTS, Home, fails, say, tensor};

#[allow(dead_code, reason = "the engine's tests have more manners to try")]
#[path = "../../../engine/src/models/hub/fetch/server.rs"]
mod server;

use server::{COMMIT, ID, Manner, Server, plain_tag};

/// A teacher from the hub for two numbers and three classes.
const RECIPE: &str = r#"
device = "cpu"
data = { source = "csv", train = "some.csv", test = "some.csv", label = "label", normalise = "none" }
teacher = { folder = "hf:owner/model" }
student = { model = { type = "mlp", hidden_sizes = [2] } }
train = { epochs = 1, batch = 2, optimizer = { name = "sgd", lr = 0.05 } }
"#;

/// A folder with data and a recipe, and a hub that has the hand-made model.
fn home() -> (Home, Arc<Server>) {
    let home = Home::new();
    home.write("some.csv", "a,b,label\n2,1,ant\n-4,2,bee\n8,-4,cat\n");
    home.write("hub.toml", RECIPE);
    home.write_f32("weights", &HAND_WEIGHTS);
    let files: [(&str, &[u8]); 2] =
        [("config.json", HAND_CONFIG.as_bytes()), ("model.safetensors", &home.read("weights"))];
    (home, Server::start(&files, plain_tag))
}

fn command(home: &Home, server: &Server, arguments: &str) -> Command {
    let mut command = home.command(arguments);
    for unset in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(unset);
    }
    command.env("HF_HOME", home.path("hf")).env("HF_ENDPOINT", &server.endpoint);
    command
}

#[test]
fn a_recipe_is_pinned_to_a_commit() {
    let (home, server) = home();
    let said = say(command(&home, &server, "run hub.toml --out one"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let wanted = format!("Downloaded model.safetensors of hf:{ID}: ");
    assert!(said.err.contains(&wanted), "{}", said.err);
    let resolved = String::from_utf8(home.read("one/recipe.toml")).unwrap();
    assert!(resolved.contains(&format!("folder = \"hf:{ID}@{COMMIT}\"")), "{resolved}");
    // The run names the cache's file in the place of a copy.
    let lies = home.json("one/teacher/weights.json")["from"].as_str().unwrap().to_owned();
    let teacher = std::fs::read(Path::new(&lies).join("model.safetensors")).unwrap();
    for (name, shape, values) in HAND_WEIGHTS {
        assert_eq!(tensor(&teacher, name), (shape.to_vec(), values.to_vec()));
    }

    // What was resolved needs the network no more, and gives the same bytes.
    server.behave(Manner::Refuses(503, ""));
    let again = say(command(&home, &server, "run one/recipe.toml --out two"));
    assert_eq!(again.code, Some(0), "{again:?}");
    let offline = |arguments: &str| {
        let mut command = command(&home, &server, arguments);
        command.env("HF_HUB_OFFLINE", "1");
        say(command).code
    };
    assert_eq!(offline("run hub.toml --out three"), Some(0));
    for model in ["student", "control"] {
        let [one, two, three] = ["one", "two", "three"]
            .map(|run| home.read(&format!("{run}/{model}/model.safetensors")));
        assert!(one == two && one == three, "{model}");
    }
}

#[test]
fn commands_take_models_of_the_hub() {
    let (home, server) = home();
    let done = |arguments: &str| {
        let said = say(command(&home, &server, arguments));
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    };
    let hub = done("eval hf:owner/model@v1 --data some.csv --device cpu --json");
    // The model says ant, bee, ant.
    assert!(hub.contains("\"errors\": 1,"), "{hub}");
    home.write_f32("x.safetensors", &[("features", &[1, 2], &[2.0, 1.0])]);
    done("logits hf:owner/model --input x.safetensors --out z --device cpu");
    home.write_hand();
    done("logits hand --input x.safetensors --out same --device cpu");
    assert_eq!(home.read("z"), home.read("same"));
}

#[test]
fn what_the_hub_refuses_is_told_and_leaves_no_run() {
    let (home, server) = home();
    let run = || command(&home, &server, "run hub.toml --out out --quiet");
    server.behave(Manner::Refuses(401, ""));
    fails(run(), &["hf:owner/model: there is no such model, or it is private", "HF_TOKEN"]);
    server.behave(Manner::BreaksOff);
    fails(run(), &["model.safetensors: the download broke off", "run again"]);
    let mut offline = run();
    offline.env("HF_HUB_OFFLINE", "1");
    fails(offline, &["hf:owner/model: revision main is not in the cache", "HF_HUB_OFFLINE"]);
    assert!(!home.path("out").exists());
    assert!(home.paths().iter().all(|path| !path.ends_with("model.safetensors")));
    fails(
        command(&home, &server, "run hub.toml --set teacher={folder=\"hf:model\"} --quiet"),
        &["`teacher.folder` is the string \"hf:model\"", "hf:OWNER/NAME or hf:OWNER/NAME@REVISION"],
    );
}
