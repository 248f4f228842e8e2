//! Pictures as they are found: transparent, of other sizes, in folders within folders.

use serde_json::Value;

use super::{Home, tensor};

/// A grey picture that is white, and whose left or right half is opaque alone.
fn half(left: bool, side: usize) -> Vec<u8> {
    let alpha = |column: usize| if (column < side / 2) == left { 255 } else { 0 };
    let row: Vec<u8> = (0..side).flat_map(|column| [255, alpha(column)]).collect();
    let head = format!(
        "P7\nWIDTH {side}\nHEIGHT {side}\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n"
    );
    [head.into_bytes(), row.repeat(side)].concat()
}

/// The same in colours and without transparency, on black.
fn flat(left: bool, side: usize) -> Vec<u8> {
    let shade = |column: usize| if (column < side / 2) == left { 255 } else { 0 };
    let row: Vec<u8> = (0..side).flat_map(|column| [shade(column); 3]).collect();
    [format!("P6 {side} {side} 255\n").into_bytes(), row.repeat(side)].concat()
}

#[test]
fn a_model_reads_pictures_as_it_learnt_them() {
    let home = Home::new();
    for number in 0..8 {
        for (class, left) in [("left", true), ("right", false)] {
            home.write(&format!("train/{class}/deep/er/{number}.pam"), half(left, 4));
            home.write(&format!("large/{class}/{number}.ppm"), flat(left, 16));
        }
    }
    let data = "data={source=\"images\",train=\"train\",test=\"train\",background=\"black\"}";
    let run = "run tiny.toml -q --out run --set train.epochs=60 --set";
    home.done(&format!("{run} {data}"));
    let config = home.json("run/student/config.json");
    assert_eq!(
        (&config["background"], &config["input_shape"][1]),
        (&Value::from("black"), &Value::from(4))
    );
    let eval = |arguments: &str| -> Value {
        serde_json::from_str(
            &home.done(&format!("eval run/student --device cpu --json {arguments}")),
        )
        .unwrap()
    };
    for data in ["train", "large", "large --size 4x4 --channels 1"] {
        assert_eq!(eval(&format!("--data {data}"))["errors"], 0, "{data}");
    }
    home.refused(
        "eval run/student --device cpu --data train --background white",
        &[
            "the model learnt transparent pictures on black, and these are on white",
            "data.background",
        ],
    );
    home.refused(
        "eval run/student --device cpu --data large --size 8",
        &["the model takes examples of [1, 4, 4], and these are [1, 8, 8]"],
    );
    let other = data
        .replace("black", "#ff0000")
        .replace("train\",background", "train\",channels=1,background");
    home.refused(
        &format!(
            "run tiny.toml --out other --set {other} --set teacher={{folder=\"run/teacher\"}}"
        ),
        &["on black, and these are on #ff0000"],
    );

    home.done("logits run/student --device cpu -q --input large --out z.safetensors");
    let (shape, logits) = tensor(&home.read("z.safetensors"), "logits");
    assert_eq!(shape, [16, 2]);
    let right: Vec<bool> = logits.chunks(2).map(|row| row[1] > row[0]).collect();
    assert_eq!(right, [[false; 8], [true; 8]].concat(), "in the order of the paths");
}
