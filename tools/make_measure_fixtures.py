"""Makes tests/fixtures/measures.json: predictions and labels, and what the usual tools measure of them.

    python tools/make_measure_fixtures.py     # needs numpy, scipy, scikit-learn, seqeval and torchmetrics

Numbers, several labels and entities are drawn by a generator with a seed. Answers to questions are written out.
"""

import json
import pathlib
import warnings

import numpy as np
from scipy import stats
from seqeval.metrics import accuracy_score, classification_report
from sklearn import metrics
from torchmetrics.functional.text import squad

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/measures.json"
warnings.filterwarnings("ignore")


def numbers(random):
    truth = np.round(random.normal(3, 2, [60, 2]), 2).astype(np.float32)
    truth[:, 1] = np.round(truth[:, 1])
    predicted = np.round(truth + random.normal(0, 1, truth.shape), 2).astype(np.float32)
    columns = list(zip(predicted.T.astype(np.float64), truth.T.astype(np.float64)))
    return {
        "predicted": predicted.ravel().tolist(),
        "truth": truth.ravel().tolist(),
        "width": 2,
        "rmse": [metrics.root_mean_squared_error(t, p) for p, t in columns],
        "mae": [metrics.mean_absolute_error(t, p) for p, t in columns],
        "r2": [metrics.r2_score(t, p) for p, t in columns],
        "pearson": [stats.pearsonr(t, p)[0] for p, t in columns],
        "spearman": [stats.spearmanr(t, p)[0] for p, t in columns],
        "mean_rmse": metrics.root_mean_squared_error(truth.astype(float), predicted.astype(float)),
        "mean_r2": metrics.r2_score(truth.astype(float), predicted.astype(float)),
    }


def several(random):
    """Of five labels, one is never true and never said; scores have ties."""
    flags = (random.random([50, 5]) < [0.5, 0.1, 0.3, 0.8, 0.0]).astype(int)
    logits = np.round(random.normal(0, 1, [50, 5]) + flags - 0.5, 1)
    logits[:, 4] = -np.abs(logits[:, 4]) - 0.1
    said = logits > 0
    known = flags.any(0)
    return {
        "logits": logits.ravel().tolist(),
        "flags": flags.ravel().tolist(),
        "labels": 5,
        "micro_f1": metrics.f1_score(flags, said, average="micro", zero_division=0),
        "macro_f1": metrics.f1_score(flags, said, average="macro", zero_division=0),
        "subset_accuracy": metrics.accuracy_score(flags, said),
        "average_precision": metrics.average_precision_score(flags[:, known], logits[:, known], average=None).tolist(),
    }


def entities(random):
    """Tags of every scheme, drawn without regard to what may follow what."""
    cases = []
    for letters in ["BI", "IE", "BIES", "I", "B"]:
        names = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in ["PER", "LOC", "ORG-X"]]
        truth = [random.integers(0, len(names), n).tolist() for n in [1, 2, 5, 9, 17, 33, 60]]
        predicted = [
            [int(tag if random.random() < 0.7 else random.integers(0, len(names))) for tag in row]
            for row in truth
        ]
        named = lambda rows: [[names[tag] for tag in row] for row in rows]
        report = classification_report(named(truth), named(predicted), output_dict=True, zero_division=0)
        cases.append(
            {
                "names": names,
                "truth": truth,
                "predicted": predicted,
                "accuracy": accuracy_score(named(truth), named(predicted)),
                "report": {
                    kind: {key: float(value) for key, value in scores.items()} for kind, scores in report.items()
                },
            }
        )
    return cases


def answers():
    """Answers that are predicted, and those that are right."""
    cases = [
        ("the Eiffel Tower", ["Eiffel Tower", "The tower"]),
        ("An apple, a pear; the plum!", ["apple pear plum", "apple"]),
        ("in 1990", ["1990", "the year 1990", "in the 1990s"]),
        ("nothing alike", ["other words"]),
        ("to to be or not", ["to be or not to be"]),
        ("l’a b", ["l’ b"]),
        ("the theory of an atheist", ["theory of atheist"]),
        ("U.S.A.", ["usa", "United States"]),
        ("self-driving", ["selfdriving", "self driving"]),
        ("Ärger über Öl", ["ärger ÜBER öl"]),
        ("", ["words"]),
        ("x\u00a0y\tz", ["X Y Z"]),
        ("«a»", ["«»"]),
        ("STRASSE", ["straße"]),
        ("a1 the_end", ["a1 theend"]),
    ]
    found = []
    for index, (predicted, known) in enumerate(cases):
        measured = squad(
            {"prediction_text": predicted, "id": str(index)},
            {"answers": {"answer_start": [0] * len(known), "text": known}, "id": str(index)},
        )
        found.append(
            {
                "predicted": predicted,
                "answers": known,
                "exact": measured["exact_match"].item() / 100,
                "f1": measured["f1"].item() / 100,
            }
        )
    return found


def main():
    random = np.random.default_rng(20)
    made = {
        "numbers": numbers(random),
        "several": several(random),
        "entities": entities(random),
        "answers": answers(),
    }
    OUT.write_text(json.dumps(made, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
