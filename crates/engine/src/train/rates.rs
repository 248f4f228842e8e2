//! Which parameter learns how fast.

use crate::error::Error;
use crate::graph::ops::Rate;
use crate::recipe::Train;
use crate::store::ParameterSpec;

/// The rate of each parameter; none where all learn alike.
///
/// # Errors
/// [`Error::Model`] when a group has no parameter, naming all there are, or nothing is left to train.
pub fn rates(train: &Train, specs: &[ParameterSpec]) -> Result<Vec<Rate>, Error> {
    let refused = |problem: String| Error::Model { path: "train.groups".to_owned(), problem };
    let groups = &train.groups;
    if groups.is_empty() && train.layer_decay == 1.0 {
        return Ok(Vec::new());
    }
    if let Some(group) = groups.iter().find(|group| !specs.iter().any(|spec| group.has(&spec.name)))
    {
        let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
        return Err(refused(format!(
            "no parameter matches `{}`; there are {}",
            group.pattern,
            names.join(", ")
        )));
    }
    let base = train.optimizer.lr();
    let rate = |(spec, depth): (&ParameterSpec, i32)| {
        let group = groups.iter().find(|group| group.has(&spec.name));
        let own = group.and_then(|group| group.lr.map(|lr| lr / base).or(group.lr_factor));
        Rate {
            lr_scale: own.unwrap_or(1.0) * train.layer_decay.powi(depth),
            weight_decay: group.and_then(|group| group.weight_decay),
        }
    };
    let rates: Vec<Rate> = specs.iter().zip(depths(specs)).map(rate).collect();
    match rates.iter().all(|rate| rate.is_frozen()) {
        true => Err(refused(
            "every parameter has a learning rate of 0: nothing is left to train".to_owned(),
        )),
        false => Ok(rates),
    }
}

/// How many layers lie above each parameter: 0 for the last ones. A layer is what has a number in its name; what
/// comes before the first and behind the last is a layer each.
fn depths(specs: &[ParameterSpec]) -> Vec<i32> {
    let number =
        |spec: &ParameterSpec| spec.name.split('.').find_map(|part| part.parse::<i32>().ok());
    let last = specs.iter().filter_map(number).max().unwrap_or(-1);
    let ends = specs.last().is_some_and(|spec| number(spec).is_none());
    let top = last + i32::from(ends);
    let mut above = top + 1;
    let depth = |spec: &ParameterSpec| {
        above = match number(spec) {
            Some(layer) => top - layer,
            None if above <= top => 0,
            None => above,
        };
        above
    };
    specs.iter().map(depth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Init;

    fn specs(names: &[&str]) -> Vec<ParameterSpec> {
        let spec = |name: &&str| ParameterSpec {
            name: (*name).to_owned(),
            shape: vec![2],
            decay: true,
            init: Init::Constant(0.0),
        };
        names.iter().map(spec).collect()
    }

    fn train(keys: &str) -> Train {
        let text = format!(
            "[data]\nsource = \"embedded\"\n[teacher]\nfolder = \"t\"\n[student]\nmodel = {{ type = \"mlp\", hidden_sizes = [1] }}\n\
             [train]\nepochs = 1\noptimizer = {{ name = \"sgd\", lr = 0.5 }}\n{keys}"
        );
        crate::recipe::Recipe::parse(&text, "a.toml").unwrap().train
    }

    #[test]
    fn the_first_group_that_matches_counts() {
        let specs = specs(&["a.weight", "a.bias", "b.weight"]);
        assert!(rates(&train(""), &specs).unwrap().is_empty());
        let keys = "groups = [{ match = \"a.bias\", lr = 0.0 }, { match = \"a\", lr = 0.25, weight_decay = 0.1 }]";
        let rate = |lr_scale, weight_decay| Rate { lr_scale, weight_decay };
        let expected = [rate(0.5, Some(0.1)), rate(0.0, None), rate(1.0, None)];
        assert_eq!(rates(&train(keys), &specs).unwrap(), expected);
        let refused = |keys: &str| rates(&train(keys), &specs).unwrap_err().to_string();
        let error = refused("groups = [{ match = \"c\", lr_factor = 2.0 }]");
        assert!(error.contains("`c`; there are a.weight, a.bias, b.weight"), "{error}");
        let error = refused("groups = [{ match = \"*\", lr_factor = 0.0 }]");
        assert!(error.contains("nothing is left to train"), "{error}");
    }

    #[test]
    fn rates_fall_layer_by_layer() {
        let of = |names: &[&str]| -> Vec<f32> {
            let rates = rates(&train("layer_decay = 0.5"), &specs(names)).unwrap();
            rates.iter().map(|rate| rate.lr_scale).collect()
        };
        let names =
            ["words", "norm", "layer.0.a", "layer.0.b", "layer.1.a", "pooler", "classifier"];
        assert_eq!(of(&names), [0.125, 0.125, 0.25, 0.25, 0.5, 1.0, 1.0]);
        assert_eq!(of(&["layers.0.weight", "layers.0.bias", "layers.1.weight"]), [0.5, 0.5, 1.0]);
    }
}
