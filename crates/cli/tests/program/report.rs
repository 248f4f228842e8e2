//! The page of a run and the page that compares runs, also in a real browser.

#[cfg(unix)]
use std::collections::HashMap;
#[cfg(unix)]
use std::process::Command;

use serde_json::json;

#[cfg(unix)]
use super::browser::chromium;
use super::commands::{base, replaced};
use super::sweep::swept;
use super::{Home, say};

/// What a page is made from.
const FILES: [&str; 4] = ["recipe.toml", "metrics.jsonl", "answers.json", "report.json"];

/// Copies what the tiny run's page is made from.
fn copy_run(home: &Home, name: &str) {
    for file in FILES {
        home.write(&format!("{name}/{file}"), base().0.read(&format!("base/{file}")));
    }
}

#[test]
fn a_page_is_made_again_to_the_byte() {
    let home = Home::new();
    copy_run(&home, "copy");
    assert_eq!(home.done("report copy"), "Report: copy/report.html\n");
    let page = home.read("copy/report.html");
    assert!(page == base().0.read("base/report.html"), "the page differs from the run's");
    assert!(page.len() < 500_000, "{} bytes", page.len());
    assert_eq!(home.done("report copy --out here.html"), "Report: here.html\n");
    assert!(home.read("here.html") == page);
    let printed = home.done("report copy --json");
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, json!({ "report": "copy/report.html" }));
}

#[test]
fn a_page_needs_nothing_else() {
    let page = String::from_utf8(base().0.read("base/report.html")).unwrap();
    // The browser refuses what is not in the page.
    assert!(page.contains(r#"content="default-src 'none'; img-src data:; "#));
    for part in page.split("src=\"").skip(1) {
        assert!(part.starts_with("data:image/png;base64,"), "{}", &part[..40]);
    }
    for part in page.split("<link ").skip(1) {
        assert!(part.starts_with("rel=\"icon\" href=\"data:,\">"), "{}", &part[..40]);
    }
    for (name, least) in [("<canvas ", 6), ("<article class=\"card\">", 6), ("Ankle boot", 10)] {
        let count = page.matches(name).count();
        assert!(count >= least, "{name}: {count}");
    }
}

#[test]
fn several_runs_are_compared() {
    let home = Home::new();
    for name in ["runs/a", "runs/b", "other/a"] {
        copy_run(&home, name);
    }
    let warm = replaced(&home.read("runs/b/recipe.toml"), "temperature = 4.0", "temperature = 8.0");
    home.write("runs/b/recipe.toml", warm);
    assert_eq!(home.done("report runs/a runs/b"), "Report: compare.html\n");
    let page = String::from_utf8(home.read("compare.html")).unwrap();
    for part in [
        "2 runs compared",
        "<code>distil.temperature</code></th><td>4.0</td><td>8.0</td>",
        "\"label\":\"b, student distilled\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Folders of one name go by their paths.
    home.done("report runs/a other/a --out names.html");
    let page = String::from_utf8(home.read("names.html")).unwrap();
    assert!(page.contains("other/a, student alone") && page.contains("runs/a, student alone"));
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let home = Home::new();
    home.refused("report none", &["none: ", "not the folder of a run"]);
    home.write("begun/recipe.toml", "");
    home.refused("report begun", &["begun: ", "not finished"]);

    copy_run(&home, "run");
    let whole = home.read("run/report.json");
    home.write("run/report.json", &whole[..whole.len() / 2]);
    home.refused("report run", &["run/report.json: damaged: ", "line"]);
    home.write("run/report.json", &whole);

    let metrics = String::from_utf8(home.read("run/metrics.jsonl")).unwrap();
    home.write("run/metrics.jsonl", metrics.replacen("\"epoch\"", "epoch", 1));
    home.refused("report run", &["run/metrics.jsonl: line 1, column ", "damaged"]);
    // Where a writer was stopped, nothing else is lost.
    home.write("run/metrics.jsonl", &metrics[..metrics.len() - 20]);
    home.done("report run");
    home.write("run/metrics.jsonl", &metrics);

    home.write("run/answers.json", "{}");
    home.refused("report run", &["run/answers.json: damaged: missing field"]);
    let answers = String::from_utf8(base().0.read("base/answers.json")).unwrap();
    home.write("run/answers.json", answers.replacen("\"Trouser\",", "", 1));
    home.refused("report run", &["run/answers.json: ", "differ in length"]);
    // Among several, the one that is wrong is named.
    copy_run(&home, "good");
    home.refused("report good run", &["run/answers.json: "]);
    home.refused("report good --out none/page.html", &["none/page.html", "No such file"]);
    assert_eq!(say(home.command("report")).code, Some(2));
}

/// What a page says of itself in a browser: the size of its paper, and whether its charts are drawn.
#[cfg(unix)]
const PROBE: &str = r#"
<script>
addEventListener("load", () => setTimeout(() => {
  const canvases = [...document.querySelectorAll("canvas")];
  const blank = canvases.filter((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size < 4;
  });
  const images = [...document.images].filter((image) => image.naturalWidth === 0);
  const [red] = getComputedStyle(document.body).backgroundColor.match(/\d+/);
  top.document.documentElement.setAttribute("data-probe", [
    `width=${innerWidth}`, `overflow=${document.documentElement.scrollWidth - document.documentElement.clientWidth}`,
    `charts=${canvases.length}`, `blank=${blank.length}`, `broken=${images.length}`,
    `dark=${red < 128}`, `scripts=${document.scripts.length}`,
  ].join(" "));
}, 300));
</script>
"#;

/// Opens a page and returns what it says of itself. Nothing may be wrong on the console.
#[cfg(unix)]
#[track_caller]
fn probe(home: &Home, page: &str, width: u32, dark: bool) -> HashMap<String, String> {
    let html = String::from_utf8(home.read(page)).unwrap();
    let (start, end) = html.rsplit_once("</body>").unwrap();
    let framed = format!("{start}{PROBE}</body>{end}").replace('&', "&amp;").replace('"', "&quot;");
    // A window cannot be as narrow as a phone, a frame can.
    let frame = format!(
        "<!doctype html><style>:root {{ color-scheme: light dark }}</style>
         <iframe srcdoc=\"{framed}\" style=\"width: {width}px; height: 900px; border: 0\"></iframe>"
    );
    home.write("probe.html", frame);
    let mut command = Command::new(chromium());
    // A container has no sandbox to offer; the page is ours.
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--dump-dom",
    ]);
    command.args(["--enable-logging=stderr", "--virtual-time-budget=5000"]);
    command.arg(format!("--user-data-dir={}", home.path("profile").display()));
    command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
    command.arg("--window-size=1400,1000");
    command.arg(format!("file://{}", home.path("probe.html").canonicalize().unwrap().display()));
    let output = command.output().unwrap();
    let [dom, log] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(!log.contains("CONSOLE"), "{page}, {width}: {log}");
    let (_, said) = dom.split_once("data-probe=\"").unwrap_or_else(|| panic!("{page}: {log}"));
    let (said, _) = said.split_once('"').unwrap();
    let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
    said.split(' ').filter_map(pair).collect()
}

#[cfg(unix)]
#[test]
fn pages_work_in_a_browser() {
    let home = Home::new();
    for run in ["a", "b"] {
        copy_run(&home, run);
    }
    home.done("report a b");
    home.done("report a");
    // Names that would break a page, if they could.
    copy_run(&home, "hostile");
    let hostile = "</script><script>document.body.remove()</script><img src=x>";
    let long = "x".repeat(300);
    let answers = String::from_utf8(home.read("hostile/answers.json")).unwrap();
    let answers = answers.replacen("Trouser", hostile, 1).replacen("Pullover", &long, 1);
    home.write("hostile/answers.json", answers);
    let report = replaced(
        &home.read("hostile/report.json"),
        "\"tiny\"",
        &json!(format!("{hostile}{long}")).to_string(),
    );
    home.write("hostile/report.json", report);
    home.done("report hostile");
    let sweep = swept().0.read("swept/sweep.json");
    home.write("sweep/sweep.json", &sweep);
    let name = json!(format!("distil.{hostile}{long}")).to_string();
    let key = "\"distil.temperature\"";
    home.write("bad/sweep.json", String::from_utf8(sweep).unwrap().replace(key, &name));
    home.done("report sweep");
    home.done("report bad");

    let pages = [
        ("a/report.html", "6"),
        ("compare.html", "4"),
        ("hostile/report.html", "6"),
        ("sweep/sweep.html", "2"),
        ("bad/sweep.html", "2"),
    ];
    for (page, charts) in pages {
        for (width, dark) in [(1280, true), (360, false), (360, true), (1280, false)] {
            // The others are the same style again.
            if page != "a/report.html" && dark == (width == 360) {
                continue;
            }
            let said = probe(&home, page, width, dark);
            let (width, dark) = (width.to_string(), dark.to_string());
            let wanted = [
                ("width", &*width),
                ("overflow", "0"),
                ("charts", charts),
                ("blank", "0"),
                ("broken", "0"),
                ("dark", &*dark),
                // The page's three and the probe.
                ("scripts", "4"),
            ];
            let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(said, HashMap::from(wanted), "{page}");
        }
    }
}
